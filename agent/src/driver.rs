//! What runs a host's instances: processes, processes in network namespaces, virtual machines, or
//! nothing at all.

use crate::host::Phase;
use crate::wire::InstanceKey;
use async_trait::async_trait;
use axum::body::Bytes;
use eventplane_domain::Reason;

/// Something that happened to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// This generation of it runs.
    Started(InstanceKey, u32),
    /// This generation of it could not be started, or has ended by itself, and is not started again.
    Ended(InstanceKey, u32, Reason),
    /// Nothing of it runs any more, as was asked for.
    Stopped(InstanceKey),
}

/// A driver. It does as it is told, one order of an instance after the other, and keeps nobody
/// waiting: what comes of an order it tells later, in [`Driver::happened`].
#[async_trait]
pub trait Driver: Send {
    /// The agent was started anew, and so stood what it remembers. What was being started is to be
    /// started, or found running; what ran runs on.
    fn resume(&mut self, remembered: Vec<(InstanceKey, u32, Phase)>) {
        for (key, generation, phase) in remembered {
            if phase == Phase::Starting {
                self.start(&key, generation);
            }
        }
    }

    /// The wanted set as it came. A driver that has to know what an instance is made of reads it here;
    /// the orders that follow are about it.
    fn hear(&mut self, set: &Bytes) {
        let _ = set;
    }

    /// Starts this generation of an instance, or finds that it runs already.
    fn start(&mut self, key: &InstanceKey, generation: u32);

    /// Starts anew what runs, where it runs.
    fn reboot(&mut self, key: &InstanceKey, generation: u32);

    /// Makes sure that no generation up to this one runs.
    fn stop(&mut self, key: &InstanceKey, generation: u32);

    /// Whether something of it may run that has to be stopped: while it does, nothing is promised.
    fn is_stopping(&self, key: &InstanceKey) -> bool {
        let _ = key;
        false
    }

    /// No answer that the host would listen to can name it any more: what was kept of it may go.
    fn forget(&mut self, key: &InstanceKey) {
        let _ = key;
    }

    /// Waits for what happens next, and tells all that has happened by then. May be dropped at any
    /// moment; then it is told the next time.
    async fn happened(&mut self) -> Vec<Happened>;
}
