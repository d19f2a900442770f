//! ACLs: to come.
