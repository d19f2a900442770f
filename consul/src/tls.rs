//! TLS to the agent's own HTTPS port: which roots it is believed by, and who we are to it.
//!
//! Nothing here concerns the mesh; its identities are verified elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{ConfigError, Tls};

/// Where Linux distributions and BSDs keep the bundle of roots.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The client side of TLS to `host`, or what in the settings stands in its way.
pub(crate) fn connector(
    tls: &Tls,
    host: &str,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), ConfigError> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
        let expected = "a DNS name or an IP address";
        ConfigError::new("CONSUL_TLS_SERVER_NAME", format_args!("{name:?}"), expected)
    })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::new("TLS", error, "a provider with TLS 1.2 or 1.3"))?;
    let builder = if tls.verify {
        builder.with_root_certificates(roots(tls)?)
    } else {
        let accept_any = Arc::new(DangerousAnyServer(provider));
        builder.dangerous().with_custom_certificate_verifier(accept_any)
    };
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates("CONSUL_CLIENT_CERT", cert)?;
            let found = key;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                let found = format_args!("{} ({error})", found.display());
                ConfigError::new("CONSUL_CLIENT_KEY", found, "a PEM file with a private key")
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let found = format_args!("{} ({error})", found.display());
                ConfigError::new("CONSUL_CLIENT_KEY", found, "the key of CONSUL_CLIENT_CERT")
            })?
        }
    };
    Ok((Arc::new(config), server_name))
}

fn roots(tls: &Tls) -> Result<RootCertStore, ConfigError> {
    let mut files: Vec<(&str, PathBuf)> = Vec::new();
    files.extend(tls.ca_file.iter().map(|file| ("CONSUL_CACERT", file.clone())));
    if let Some(dir) = &tls.ca_path {
        let unreadable = |error| {
            let found = format_args!("{} ({error})", dir.display()).to_string();
            ConfigError::new("CONSUL_CAPATH", found, "a directory of PEM files")
        };
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            files.push(("CONSUL_CAPATH", entry.map_err(unreadable)?.path()));
        }
    }
    if files.is_empty() {
        let Some(bundle) = SYSTEM_BUNDLES.iter().find(|path| Path::new(path).is_file()) else {
            let expected = "a PEM file of roots, since this system has no bundle of its own";
            return Err(ConfigError::new("CONSUL_CACERT", "nothing", expected));
        };
        files.push(("CONSUL_CACERT", PathBuf::from(bundle)));
    }
    let mut store = RootCertStore::empty();
    for (setting, file) in files {
        let (added, _) = store.add_parsable_certificates(certificates(setting, &file)?);
        if added == 0 {
            let expected = "certificates that can be used as roots";
            return Err(ConfigError::new(setting, file.display(), expected));
        }
    }
    Ok(store)
}

fn certificates(setting: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>());
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(ConfigError::new(
            setting,
            format_args!("{} without a certificate", file.display()),
            "a PEM file with certificates",
        )),
        Err(error) => Err(ConfigError::new(
            setting,
            format_args!("{} ({error})", file.display()),
            "a PEM file with certificates",
        )),
    }
}

/// Believes any server, as `CONSUL_HTTP_SSL_VERIFY=false` asks for.
#[derive(Debug)]
struct DangerousAnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for DangerousAnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
