//! The end of a server.

use std::sync::Arc;

use mq_net::transport::Listener;

/// The exit status of a command, and ports that stay taken until this is dropped.
#[derive(Debug, Default)]
pub struct Ended {
    /// 0 is success.
    pub status: u8,
    /// The HTTP ports of a broker that was drained: nobody is answered there any more.
    pub(crate) ports: Vec<Arc<Listener>>,
}

impl Ended {
    /// An end without ports.
    pub fn with(status: u8) -> Self {
        Self { status, ports: Vec::new() }
    }

    /// Leaves the ports to the system, which closes them when the process ends: so whoever waits for them to
    /// close waits for that. Gives the exit status.
    pub fn leave_ports_to_exit(self) -> u8 {
        for port in self.ports {
            port.unlink();
            std::mem::forget(port);
        }
        self.status
    }
}
