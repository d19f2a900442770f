//! What the app is spared, as far as no key alone shows it to be wrong.

use super::Resolver;
use crate::config::Concurrency;

impl Resolver<'_> {
    /// The limit of calls; a `least` that is left out is no more than `most`.
    pub(super) fn concurrency(&mut self, keys: &mut Concurrency) {
        let Concurrency { adaptive, least, most, .. } = *keys;
        if least <= most {
            return;
        }
        let key = "inbound.concurrency.least";
        if adaptive && self.is_set(key) {
            let message = format!("found {least} beside a most of {most}, expected no more");
            self.problem(key, message);
        }
        keys.least = most;
    }
}
