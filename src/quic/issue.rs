//! Makes a CA and certificates for development. Not for the open Internet.

use anyhow::{Context, bail};
use mimi_actors::ids::ProviderId;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Makes `ca.crt` and `ca.key` in `out`.
///
/// # Errors
/// When they exist or cannot be written.
pub fn create_ca(out: &Path) -> anyhow::Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let name = "mimi-node development CA";
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write_pair(out, "ca", &certificate, &key)
}

/// Makes `DOMAIN.crt` and `DOMAIN.key` in `out`, issued by the CA in `ca`.
///
/// # Errors
/// When the CA does not read, or the files exist or cannot be written.
pub fn create_certificate(ca: &Path, domain: &ProviderId, out: &Path) -> anyhow::Result<()> {
    create_certificate_for(ca, domain, out, None)
}

/// As [`create_certificate`], for so many days from now.
///
/// # Errors
/// As [`create_certificate`].
pub fn create_certificate_for(
    ca: &Path,
    domain: &ProviderId,
    out: &Path,
    days: Option<u16>,
) -> anyhow::Result<()> {
    let (ca_certificate, ca_key) = files(ca, "ca");
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .with_context(|| format!("read {}; `mimi-node pki ca` makes one", path.display()))
    };
    let key = KeyPair::from_pem(&read(&ca_key)?)
        .with_context(|| format!("{} is no private key", ca_key.display()))?;
    let issuer = Issuer::from_ca_cert_pem(&read(&ca_certificate)?, key)
        .with_context(|| format!("{} is no certificate", ca_certificate.display()))?;
    let mut params = CertificateParams::new(vec![domain.to_string()])?;
    params
        .distinguished_name
        .push(DnType::CommonName, domain.as_str());
    if let Some(days) = days {
        let until = SystemTime::now() + DAY * u32::from(days);
        params.not_after = date_time_ymd(1970, 1, 1) + until.duration_since(UNIX_EPOCH)?;
    }
    // A node is server and client of the same links.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    write_pair(out, domain.as_str(), &certificate, &key)
}

/// Where a certificate of this name and its key are in a directory.
#[must_use]
pub fn files(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let file = |kind| directory.join(format!("{name}.{kind}"));
    (file("crt"), file("key"))
}

/// Writes both files or, when one of them exists, none.
fn write_pair(
    out: &Path,
    name: &str,
    certificate: &Certificate,
    key: &KeyPair,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let (certificate_path, key_path) = files(out, name);
    for path in [&certificate_path, &key_path] {
        if path.exists() {
            let path = path.display();
            bail!("{path} exists; remove it first, it is not overwritten");
        }
    }
    write_new(&key_path, &key.serialize_pem(), 0o600)?;
    write_new(&certificate_path, &certificate.pem(), 0o644)
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, LinkEndpoint, PeerTrust};
    use std::{collections::BTreeMap, net::Ipv4Addr, os::unix::fs::PermissionsExt};

    fn domain(domain: &str) -> ProviderId {
        domain.parse().unwrap()
    }

    #[tokio::test]
    async fn what_is_made_makes_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, out) = (dir.path().join("ca"), dir.path().join("deep/out"));
        create_ca(&ca).unwrap();
        let trust = PeerTrust::Ca(ca.join("ca.crt"));
        let endpoint = |own: &str, other: &str| {
            create_certificate(&ca, &domain(own), &out).unwrap();
            let (certificate, key) = files(&out, own);
            let mode = std::fs::metadata(&key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let identity = Identity::load(&certificate, &key).unwrap();
            let peers = BTreeMap::from([(domain(other), trust.clone())]);
            LinkEndpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), &identity, &peers).unwrap()
        };
        let a = endpoint("a.example", "b.example");
        let b = endpoint("b.example", "a.example");
        let b_domain = domain("b.example");
        let (dialed, taken) =
            tokio::join!(a.connect(b.local_address().unwrap(), &b_domain), async {
                b.accept().await.unwrap().establish().await
            });
        assert_eq!(dialed.unwrap().peer(), &b_domain);
        assert_eq!(taken.unwrap().peer(), &domain("a.example"));
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        create_ca(dir.path()).unwrap();
        let (certificate, key) = files(dir.path(), "ca");
        let before = (
            std::fs::read(&certificate).unwrap(),
            std::fs::read(&key).unwrap(),
        );
        let error = create_ca(dir.path()).unwrap_err().to_string();
        assert!(error.contains("ca.crt exists"), "{error}");
        let after = (
            std::fs::read(&certificate).unwrap(),
            std::fs::read(&key).unwrap(),
        );
        assert!(before == after);
        // A certificate without its key is not given another key.
        std::fs::write(dir.path().join("a.example.crt"), "mine").unwrap();
        assert!(create_certificate(dir.path(), &domain("a.example"), dir.path()).is_err());
        assert!(!dir.path().join("a.example.key").exists());
    }

    #[test]
    fn a_missing_ca_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let error = create_certificate(dir.path(), &domain("a.example"), dir.path());
        let error = format!("{:#}", error.unwrap_err());
        assert!(
            error.contains("`mimi-node pki ca` makes one: No such file"),
            "{error}"
        );
        std::fs::write(dir.path().join("ca.key"), "nonsense").unwrap();
        let error = create_certificate(dir.path(), &domain("a.example"), dir.path());
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("ca.key is no private key"), "{error}");
    }
}
