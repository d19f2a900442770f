//! The facts, by family.

mod acl;
mod authorize;
mod blocking;
mod ca;
mod catalog;
mod checks;
mod dns;
mod health;
mod http;
mod intentions;
mod registration;
mod watch;
