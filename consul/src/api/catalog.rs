//! `/v1/catalog/…`: what the servers know.
//!
//! Nothing is written here: what is registered past an agent is removed by its anti-entropy.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    Client, Get,
    api::{Node, Weights, null},
};

/// The family; see [`Client::catalog`].
#[derive(Clone, Copy, Debug)]
pub struct Catalog<'c>(pub(crate) &'c Client);

impl Catalog<'_> {
    /// The names of all services, with their tags.
    pub fn services(&self) -> Get<BTreeMap<String, Vec<String>>> {
        Get::nullable(self.0, &["catalog", "services"])
    }

    /// The instances of a service, whatever their health.
    pub fn service(&self, name: &str) -> Get<Vec<CatalogService>> {
        Get::nullable(self.0, &["catalog", "service", name])
    }

    /// The nodes.
    pub fn nodes(&self) -> Get<Vec<Node>> {
        Get::nullable(self.0, &["catalog", "nodes"])
    }

    /// The datacenters, the nearest first.
    pub fn datacenters(&self) -> Get<Vec<String>> {
        Get::nullable(self.0, &["catalog", "datacenters"])
    }
}

/// An instance, as the catalog tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CatalogService {
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: String,
    /// The datacenter.
    pub datacenter: String,
    /// Empty, or `connect-proxy`, ….
    #[serde(deserialize_with = "null")]
    pub service_kind: String,
    /// Unique on its node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// Its name.
    pub service_name: String,
    /// Tags.
    #[serde(deserialize_with = "null")]
    pub service_tags: Vec<String>,
    /// Empty where the node's address counts.
    #[serde(deserialize_with = "null")]
    pub service_address: String,
    /// The port.
    pub service_port: u16,
    /// Free text by key.
    #[serde(deserialize_with = "null")]
    pub service_meta: BTreeMap<String, String>,
    /// Weights of DNS answers.
    #[serde(deserialize_with = "null")]
    pub service_weights: Weights,
}
