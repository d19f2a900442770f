//! What Consul is told of the service, within Consul's own limits.

use super::Resolver;
use crate::config::keys::ServiceKeys;
use crate::config::{InstanceId, Service, variables};

const META_PAIRS: usize = 64;
const META_KEY: usize = 128;
const META_VALUE: usize = 512;

impl Resolver<'_> {
    pub(super) fn service(&mut self, keys: &mut ServiceKeys, outbound: u16) -> Option<Service> {
        self.meta(keys);
        for (i, tag) in keys.tags.iter().enumerate() {
            if tag.is_empty() {
                self.problem(
                    "service.tags",
                    format!("found \"\" at place {}, expected a tag", i + 1),
                );
            }
        }
        let Some(name) = keys.name.clone() else {
            if !self.is_set("service.name") {
                let variable = variables::name("service.name");
                self.problem(
                    "service.name",
                    format!(
                        "not set, expected a name in the file, in {variable} or after --service"
                    ),
                );
            }
            return None;
        };
        let port = keys.app.map_or(outbound, |app| app.socket_addr().port());
        let id = keys.id.get_or_insert_with(|| InstanceId::of(&name, port)).clone();
        Some(Service {
            name,
            id,
            tags: keys.tags.clone(),
            meta: keys.meta.clone(),
            weight: keys.weight,
        })
    }

    fn meta(&mut self, keys: &ServiceKeys) {
        if keys.meta.len() > META_PAIRS {
            let found = keys.meta.len();
            let message =
                format!("found {found} pairs, expected at most {META_PAIRS}, Consul's limit");
            self.problem("service.meta", message);
        }
        for (key, value) in &keys.meta {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            let place = format!("service.meta.{key}");
            if key.is_empty() || key.len() > META_KEY || !key.bytes().all(fits) {
                let message = format!(
                    "found the key {key:?}, expected 1 to {META_KEY} of A-Z, a-z, 0-9, _ and -"
                );
                self.problem(&place, message);
            }
            if value.len() > META_VALUE {
                let found = value.len();
                self.problem(
                    &place,
                    format!("found {found} bytes, expected at most {META_VALUE}, Consul's limit"),
                );
            }
        }
    }
}
