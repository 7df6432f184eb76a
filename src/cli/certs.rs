//! `ggcache certs`: an authority and certificates for nodes, so that TLS can be tried without one's own.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::{ServerName, UnixTime};

use super::{EXIT_WRONG, args::CertsArguments, complain};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long everything is valid that is made.
const LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Who may read a key: its owner.
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;
/// The name of the authority's files.
const AUTHORITY: &str = "ca";

/// One node.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    /// What its files are called.
    name: String,
    hosts: Vec<String>,
}

/// Makes the files and says what to write into the configuration. Exit code 2 if the command line is wrong.
///
/// # Errors
/// If a file can't be written, or is there already.
pub(super) fn run(arguments: &CertsArguments) -> anyhow::Result<ExitCode> {
    let nodes = match nodes(&arguments.node) {
        Ok(nodes) => nodes,
        Err(fault) => {
            complain([fault]);
            return Ok(ExitCode::from(EXIT_WRONG));
        }
    };
    let out = &arguments.out;
    fs::create_dir_all(out).with_context(|| format!("can't create the directory {}", out.display()))?;
    // Looked at before anything is made, so that a second run does not leave half of a set behind.
    for name in nodes.iter().map(|node| node.name.as_str()).chain([AUTHORITY]) {
        for file in [format!("{name}.pem"), format!("{name}.key")] {
            let path = out.join(file);
            anyhow::ensure!(
                path.symlink_metadata().is_err(),
                "{} is there already, and is not overwritten; name another directory",
                path.display()
            );
        }
    }
    let authority = authority()?;
    write(out, AUTHORITY, &authority.pem(), authority.key())?;
    for node in &nodes {
        let key = KeyPair::generate()?;
        let certificate = params(node)?.signed_by(&key, &authority)?;
        write(out, &node.name, &certificate.pem(), &key)?;
    }
    tell(out, &nodes).context("the configuration can't be shown; the files are made")?;
    Ok(ExitCode::SUCCESS)
}

/// The nodes that were named, each by its first host.
fn nodes(given: &[String]) -> Result<Vec<Node>, String> {
    let mut names = BTreeSet::from([AUTHORITY.to_owned()]);
    given
        .iter()
        .map(|list| {
            let hosts: Vec<_> = list.split(',').map(host).collect::<Result<_, _>>()?;
            let first = hosts.first().ok_or("--node names no host")?;
            // A file's name may have a colon, but a path in a list of paths may not.
            let name = first.replace(':', "_");
            if !names.insert(name.clone()) {
                return Err(format!(
                    "--node {list}: the files {name}.pem and {name}.key are another's already"
                ));
            }
            Ok(Node { name, hosts })
        })
        .collect()
}

/// A name or an address, without brackets.
fn host(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if ServerName::try_from(bare).is_ok() {
        Ok(bare.to_owned())
    } else {
        let shown: String = text.chars().take(80).collect();
        Err(format!(
            "--node: {shown:?} is neither a host name nor an address; write for example n1.example,10.0.0.7"
        ))
    }
}

fn authority() -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    lasting(&mut params);
    params.distinguished_name.push(DnType::CommonName, "ggcache trial authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn params(node: &Node) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(node.hosts.clone())?;
    lasting(&mut params);
    params.distinguished_name.push(DnType::CommonName, node.name.as_str());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A node answers and asks with one certificate.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// From a day ago, for clocks that are late.
fn lasting(params: &mut CertificateParams) {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(UnixTime::now().as_secs());
    (params.not_before, params.not_after) = (now - DAY, now + LIFE);
}

fn write(out: &Path, name: &str, certificate: &str, key: &KeyPair) -> anyhow::Result<()> {
    create(&out.join(format!("{name}.key")), KEY_MODE, &key.serialize_pem())?;
    create(&out.join(format!("{name}.pem")), CERTIFICATE_MODE, certificate)
}

fn create(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    created
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("can't write {}", path.display()))
}

/// Says what to do with the files.
fn tell(out: &Path, nodes: &[Node]) -> io::Result<()> {
    let path = |name: &str| toml::Value::String(out.join(name).display().to_string()).to_string();
    let mut text = String::new();
    for Node { name, hosts } in nodes {
        let (cert, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        text += &format!("# The node that is dialled at {}:\n", hosts.join(", "));
        text += &format!("[node.tls]\ncert = {cert}\nkey = {key}\nca = {}\n", path("ca.pem"));
        text += &format!("[api.tls]\ncert = {cert}\nkey = {key}\n\n");
    }
    text += "# Clients: ggcache get --ca, curl --cacert, with ca.pem. Whoever has ca.key can make a node: put it away.\n";
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(given: &[&str]) -> Result<Vec<(String, String)>, String> {
        let given: Vec<_> = given.iter().map(|list| (*list).to_owned()).collect();
        nodes(&given).map(|nodes| nodes.into_iter().map(|node| (node.name, node.hosts.join(" "))).collect())
    }

    #[test]
    fn nodes_are_named_by_their_hosts() {
        let pair = |name: &str, hosts: &str| (name.to_owned(), hosts.to_owned());
        assert_eq!(named(&["localhost,127.0.0.1"]), Ok(vec![pair("localhost", "localhost 127.0.0.1")]));
        assert_eq!(named(&["[::1]", "n2"]), Ok(vec![pair("__1", "::1"), pair("n2", "n2")]));
        for wrong in ["", "a,", "../x", "a b", "host:1", "https://h"] {
            assert!(named(&[wrong]).is_err_and(|fault| fault.contains("neither")), "{wrong}");
        }
        for twice in [["a", "a,b"], ["ca", "b"]] {
            assert!(named(&twice).is_err_and(|fault| fault.contains("another's")), "{twice:?}");
        }
    }
}
