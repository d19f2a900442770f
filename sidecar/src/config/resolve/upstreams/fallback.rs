//! The fallback of a route: each step is checked as far as anything is known of its method, so that
//! none fails when it is needed.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost_reflect::DynamicMessage;

use super::Section;
use super::descriptors::Described;
use crate::config::fallback::{Rung, RungKeys};
use crate::config::problem::Problem;
use crate::config::tree::{Node, Value};
use crate::config::{PathMatch, ServiceName};

/// Each may cost the caller an attempt's time.
const MOST: usize = 8;

/// What is known of the calls that a route is for.
pub(super) struct Subject<'r> {
    /// The route's place among the routes.
    pub(super) at: usize,
    pub(super) path: &'r PathMatch,
    pub(super) described: Option<&'r Described>,
    /// Whether its methods are idempotent, where the config says it.
    pub(super) is_idempotent: Option<bool>,
    /// Whether a variable or a flag says so over the file, which is no mistake of the file.
    pub(super) is_laid_over: bool,
}

impl Section<'_, '_> {
    /// A route's fallback.
    pub(super) fn ladder(&mut self, keys: &[RungKeys], subject: &Subject<'_>) -> Vec<Rung> {
        if keys.len() > MOST {
            let message = format!("found {} steps, expected at most {MOST}", keys.len());
            self.rung_problem(subject.at, None, "", message);
        }
        let mut ladder = Vec::new();
        for (step, keys) in keys.iter().enumerate() {
            if let Some(Rung::Answer(_) | Rung::Status(..)) = ladder.last() {
                let message = "never reached, as the step before it always has an answer";
                self.rung_problem(subject.at, Some(step), "", message.into());
                break;
            }
            match rung(keys, subject) {
                Ok(Rung::Upstream(name)) => match self.other(&name) {
                    Ok(()) => ladder.push(Rung::Upstream(name)),
                    Err(message) => {
                        self.rung_problem(subject.at, Some(step), "upstream", message);
                    }
                },
                Ok(rung) => ladder.push(rung),
                // What follows from another fault, told already, is none.
                Err((_, _)) if self.keys.descriptors.is_some() && subject.described.is_none() => {}
                Err((key, message)) => self.rung_problem(subject.at, Some(step), key, message),
            }
        }
        ladder
    }

    /// Whether calls can go to this service instead.
    fn other(&self, name: &ServiceName) -> Result<(), String> {
        if name == self.name {
            return Err("found the upstream itself, expected another one".to_owned());
        }
        if !self.consul && !self.resolver.is_set(&format!("upstreams.{name}.endpoints")) {
            return Err(format!(
                "found \"{name}\", of which no endpoints are known, although consul.enabled is \
                 false, expected upstreams.{name}.endpoints"
            ));
        }
        Ok(())
    }

    /// A problem with one step, or with all of them, at its own line.
    fn rung_problem(&mut self, at: usize, step: Option<usize>, key: &str, message: String) {
        let place = self.key("route");
        let route = self.resolver.find(&place).and_then(|routes| kept(routes, at));
        let Some((at, route)) = route else { return self.problem("route", message) };
        let mut name = format!("{place}[{at}].fallback");
        let mut node = route.find(["fallback"]).unwrap_or(route);
        if let Some((step, rung)) = step.and_then(|step| kept(node, step)) {
            name = format!("{name}[{step}]");
            node = rung;
        }
        if let Value::Table(keys) = &node.value
            && keys.values().any(|key| matches!(key.value, Value::Refused))
        {
            // Its own value is what is wrong with it.
            return;
        }
        if let Some(value) = node.find([key]) {
            name = format!("{name}.{key}");
            node = value;
        }
        let origin = node.origin.clone();
        self.resolver.problems.push(Problem { origin, key: name, message });
    }
}

/// One of a list, of which what was refused is no longer among the keys: its true place, too.
fn kept(list: &Node, at: usize) -> Option<(usize, &Node)> {
    let Value::List(list) = &list.value else { return None };
    let kept = list.iter().enumerate().filter(|(_, node)| !matches!(node.value, Value::Refused));
    kept.into_iter().nth(at)
}

/// One step; else the key that is wrong, and why.
fn rung(keys: &RungKeys, subject: &Subject<'_>) -> Result<Rung, (&'static str, String)> {
    let RungKeys { upstream, stale, answer, status, message } = keys;
    if message.is_some() && status.is_none() {
        return Err(("message", "set without status, expected it there too".to_owned()));
    }
    match (upstream, stale, answer, status) {
        (Some(name), None, None, None) => Ok(Rung::Upstream(name.clone())),
        (None, Some(age), None, None) => {
            check_stale(subject).map_err(|message| ("stale", message))?;
            Ok(Rung::Stale(age.duration()))
        }
        (None, None, Some(json), None) => {
            let answer = fixed(json, subject).map_err(|message| ("answer", message))?;
            Ok(Rung::Answer(answer))
        }
        (None, None, None, Some(status)) => {
            Ok(Rung::Status(status.code(), message.clone().unwrap_or_default()))
        }
        _ => {
            let found = [
                ("upstream", upstream.is_some()),
                ("stale", stale.is_some()),
                ("answer", answer.is_some()),
                ("status", status.is_some()),
            ];
            let found: Vec<_> = found.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(" and ") };
            Err(("", format!("found {found}, expected one of upstream, stale, answer, status")))
        }
    }
}

/// Good answers are kept of methods that may be called twice, and of one message alone.
fn check_stale(subject: &Subject<'_>) -> Result<(), String> {
    if subject.is_idempotent == Some(false) && subject.is_laid_over {
        return Ok(());
    }
    if subject.is_idempotent == Some(false) {
        return Err("set although retry.idempotent is false, with which no answer is kept, \
                    expected true there, or another step"
            .to_owned());
    }
    let is_idempotent = subject.is_idempotent.is_some();
    let prefix = match subject.path {
        PathMatch::Exact(path) => {
            let Some(described) = subject.described else { return Ok(()) };
            let method = described.method(path).ok_or_else(|| unknown(path))?;
            if method.is_server_streaming() {
                return Err(format!("{path} answers with a stream, of which nothing is kept"));
            }
            if !is_idempotent && !described.methods.is_idempotent(path) {
                return Err(format!(
                    "{path} is not idempotent by its descriptor, expected retry.idempotent = true \
                     beside it, or another step"
                ));
            }
            return Ok(());
        }
        PathMatch::Prefix(prefix) => prefix,
        PathMatch::Any => "/",
    };
    match subject.described {
        _ if is_idempotent => Ok(()),
        Some(described) if described.keeps_any(prefix) => Ok(()),
        Some(_) => Err(format!(
            "no method below \"{prefix}\" is idempotent by its descriptor and answers with one \
             message"
        )),
        None => Err(format!(
            "which methods below \"{prefix}\" are idempotent is not known, expected match.path, \
             the upstream's descriptors, or retry.idempotent = true"
        )),
    }
}

/// The fixed answer as it goes out.
fn fixed(json: &str, subject: &Subject<'_>) -> Result<Bytes, String> {
    let PathMatch::Exact(path) = subject.path else {
        return Err("of more than one method, expected match.path".to_owned());
    };
    let Some(described) = subject.described else {
        return Err("of which message is not known, expected the upstream's descriptors".to_owned());
    };
    let method = described.method(path).ok_or_else(|| unknown(path))?;
    if method.is_server_streaming() {
        return Err(format!("{path} answers with a stream, expected another step"));
    }
    let output = method.output();
    let name = output.full_name().to_owned();
    let odd = |e: serde_json::Error| format!("found JSON that is no {name}: {e}");
    let mut reader = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(output, &mut reader).map_err(odd)?;
    reader.end().map_err(odd)?;
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    // The file that it stands in is below 1 MiB.
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    message.encode(&mut framed).map_err(|e| format!("found a {name} that has no form: {e}"))?;
    Ok(framed.freeze())
}

fn unknown(path: &str) -> String {
    format!("{path} is no method of the upstream's descriptors")
}
