//! The binary `outrigger`.
fn main() {}
