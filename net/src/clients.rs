//! The connections and consumers of a process, whatever they speak.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub use crate::client::{Authorized, Client, ClientState, Consumer, Identity, Subscribed};

/// A list of clients. A handle: clones share it.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    next: AtomicU64,
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    /// Number of clients that speak `protocol`.
    pub fn count(&self, protocol: &str) -> usize {
        self.0.clients.lock().values().filter(|client| client.protocol == protocol).count()
    }

    /// Lists a connection until the returned guard is dropped.
    pub fn register(&self, protocol: &'static str, remote_address: String) -> Listed {
        self.list_one(|id| Client::new(id, protocol, remote_address, 0))
    }

    /// Lists a consumer until the returned guard is dropped.
    pub fn register_consumer(&self, consumer: Consumer<'_>) -> Listed {
        self.list_one(|id| Client::consumer(id, consumer))
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<Arc<Client>> {
        self.0.clients.lock().values().cloned().collect()
    }

    fn list_one(&self, client: impl FnOnce(u64) -> Client) -> Listed {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(client(id));
        self.0.clients.lock().insert(id, Arc::clone(&client));
        Listed { clients: self.clone(), client }
    }
}

/// A client's place in the list, given up when it is dropped.
#[derive(Debug)]
pub struct Listed {
    clients: Clients,
    client: Arc<Client>,
}

impl Listed {
    /// The listed client.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.clients.0.clients.lock().remove(&self.client.id);
    }
}
