//! Nodes that are registered in etcd, as they come and go.

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use super::{Endpoint, Endpoints, Protocol};
use crate::{
    cluster::{Address, is_never_peer},
    discovery::{EtcdConfig, EtcdListing, EtcdSetupError, Listed},
};

/// The nodes that are registered under a service. Over HTTP those that serve the API plane, at the address that they
/// name, and with TLS if they say so; over gRPC all, at their peer planes, with TLS if the protocol is that with TLS.
#[derive(Debug)]
pub struct EtcdEndpoints {
    endpoints: watch::Receiver<Vec<Endpoint>>,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

impl EtcdEndpoints {
    /// Begins to read what is registered under `service`, in tasks that end with this. Called within a Tokio runtime.
    ///
    /// # Errors
    /// If a file that `etcd` names can't be read.
    pub fn new(etcd: &EtcdConfig, service: &str, protocol: Protocol) -> Result<Self, EtcdSetupError> {
        let listing = EtcdListing::new(etcd, service)?;
        let (list, mut listed) = watch::channel(Vec::new());
        let (sender, endpoints) = watch::channel(Vec::new());
        let mut tasks = JoinSet::new();
        let _: AbortHandle = tasks.spawn(listing.run(list));
        let _: AbortHandle = tasks.spawn(async move {
            while listed.changed().await.is_ok() {
                let known: Vec<_> =
                    listed.borrow_and_update().iter().filter_map(|node| endpoint(node, protocol)).collect();
                sender.send_replace(known);
            }
        });
        Ok(Self { endpoints, _tasks: tasks })
    }
}

impl Endpoints for EtcdEndpoints {
    fn watch(&self) -> watch::Receiver<Vec<Endpoint>> {
        self.endpoints.clone()
    }
}

fn endpoint(node: &Listed, protocol: Protocol) -> Option<Endpoint> {
    match protocol {
        Protocol::Grpc | Protocol::Grpcs => {
            let address = Some(node.address.clone()).filter(may_be_asked)?;
            Some(Endpoint { protocol, address })
        }
        Protocol::Http | Protocol::Https => api(node),
    }
}

/// Where the API plane is dialled. A node that listens on every interface names none of them: then it is at the host
/// that its peers know.
///
/// Never link-local: whoever can write to etcd would send clients to a cloud's metadata service.
fn api(node: &Listed) -> Option<Endpoint> {
    let named = node.api.as_deref()?;
    let (protocol, api) = match named.strip_prefix("https://") {
        Some(api) => (Protocol::Https, api),
        None => (Protocol::Http, named),
    };
    let address = Address::new(api).ok().or_else(|| {
        let (host, _) = node.address.as_str().rsplit_once(':')?;
        let (everywhere, port) = api.rsplit_once(':')?;
        let is_everywhere = matches!(everywhere, "0.0.0.0" | "[::]");
        is_everywhere.then(|| Address::new(&format!("{host}:{port}")).ok())?
    });
    address.filter(may_be_asked).map(|address| Endpoint { protocol, address })
}

fn may_be_asked(address: &Address) -> bool {
    let host = address.host().trim_start_matches('[').trim_end_matches(']');
    !host.parse().is_ok_and(is_never_peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_dialled_where_they_say() {
        let node = |api: Option<&str>| Listed {
            address: Address::new("db1.example:10001").expect("valid"),
            api: api.map(str::to_owned),
        };
        let text = |api, protocol| endpoint(&node(api), protocol).map(|endpoint| endpoint.to_string());
        for (api, url) in [
            (Some("10.0.0.7:8000"), Some("http://10.0.0.7:8000")),
            (Some("0.0.0.0:8000"), Some("http://db1.example:8000")),
            (Some("[::]:8000"), Some("http://db1.example:8000")),
            (Some("169.254.169.254:80"), None),
            (Some("[fe80::1]:80"), None),
            (Some("https://10.0.0.7:8000"), Some("https://10.0.0.7:8000")),
            (Some("https://0.0.0.0:8000"), Some("https://db1.example:8000")),
            (Some("https://169.254.169.254:80"), None),
            (Some("ftp://10.0.0.7:8000"), None),
            (Some("nonsense"), None),
            (None, None),
        ] {
            assert_eq!(text(api, Protocol::Http).as_deref(), url, "{api:?}");
            assert_eq!(text(api, Protocol::Grpc).as_deref(), Some("grpc://db1.example:10001"), "{api:?}");
            assert_eq!(text(api, Protocol::Grpcs).as_deref(), Some("grpcs://db1.example:10001"), "{api:?}");
        }
    }
}
