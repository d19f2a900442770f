//! `/v1/acl/…`: as much as it takes to give each sidecar its least policy.

use std::fmt;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::{Client, Error, client::Call};

/// The family; see [`Client::acl`].
#[derive(Clone, Copy, Debug)]
pub struct Acl<'c>(pub(crate) &'c Client);

impl Acl<'_> {
    /// Makes the first management token, with this secret (a UUID) or one of Consul's making.
    /// Works once.
    pub async fn bootstrap(&self, secret: Option<&str>) -> Result<AclToken, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Body<'s> {
            bootstrap_secret: &'s str,
        }
        let call = Call::new(Method::PUT, &["acl", "bootstrap"]);
        match secret {
            None => self.0.send_for(&call).await,
            Some(bootstrap_secret) => {
                self.0.send_for(&call.json(&Body { bootstrap_secret })?).await
            }
        }
    }

    /// Makes a policy from rules in HCL.
    pub async fn create_policy(&self, name: &str, rules: &str) -> Result<(), Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Policy<'s> {
            name: &'s str,
            rules: &'s str,
        }
        let call = Call::new(Method::PUT, &["acl", "policy"]);
        self.0.send_quietly(&call.json(&Policy { name, rules })?).await
    }

    /// Makes a token with policies, with this secret (a UUID) or one of Consul's making.
    pub async fn create_token(
        &self,
        secret: Option<&str>,
        policies: &[&str],
    ) -> Result<AclToken, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Link<'s> {
            name: &'s str,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Token<'s> {
            #[serde(rename = "SecretID", skip_serializing_if = "Option::is_none")]
            secret_id: Option<&'s str>,
            policies: Vec<Link<'s>>,
        }
        let policies = policies.iter().map(|name| Link { name }).collect();
        let call = Call::new(Method::PUT, &["acl", "token"]);
        self.0.send_for(&call.json(&Token { secret_id: secret, policies })?).await
    }
}

/// A token that was made.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct AclToken {
    /// For people and for changing it.
    #[serde(rename = "AccessorID")]
    pub accessor_id: String,
    /// The token itself. A secret.
    #[serde(rename = "SecretID")]
    pub secret_id: String,
}

impl fmt::Debug for AclToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AclToken").field("accessor_id", &self.accessor_id).finish_non_exhaustive()
    }
}
