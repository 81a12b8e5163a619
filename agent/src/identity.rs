//! Who a host is: its key, and the session by which the plane tells two agents of one name apart.

use crate::disk::{Disk, replace};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file of a host's identity, in its data directory.
const FILE: &str = "identity.json";

/// What is kept.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    host_id: String,
    /// The private half of its key, in hex.
    secret_key: String,
    /// The machine that it was enrolled on: see [`Identity::check_machine`].
    machine_id: String,
    /// The session that the plane knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    /// The session that was begun, and that the plane may know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_session: Option<String>,
}

/// A host's identity, as it stands in its data directory.
pub struct Identity {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    kept: Mutex<Kept>,
}

impl Identity {
    /// The identity that is kept in a data directory; none if no host was enrolled there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(disk: Arc<dyn Disk>, data_dir: &Path) -> Result<Option<Identity>, String> {
        let path = data_dir.join(FILE);
        let wrong = |why: String| format!("the identity {} cannot be read: {why}", path.display());
        let Some(bytes) = disk.read(&path).map_err(|error| wrong(error.to_string()))? else {
            return Ok(None);
        };
        let kept = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        Ok(Some(Identity { disk, path, kept: Mutex::new(kept) }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what is to be kept, and only then keeps it.
    fn keep(&self, change: impl FnOnce(&mut Kept)) -> Result<(), String> {
        let mut kept = self.kept();
        let mut next = kept.clone();
        change(&mut next);
        let json = serde_json::to_vec_pretty(&next).expect("plain data");
        replace(&*self.disk, &self.path, &json)
            .map_err(|error| format!("{} cannot be written: {error}", self.path.display()))?;
        *kept = next;
        Ok(())
    }

    /// The session that the plane is to know from now on, and the one before it. Asked again before
    /// [`Identity::session_begun`], also by an agent that was started anew, it is the same one: the
    /// plane may have taken it, and the answer be lost.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub(crate) fn begin_session(&self, fresh: &str) -> Result<(Option<String>, String), String> {
        if self.kept().next_session.is_none() {
            self.keep(|kept| kept.next_session = Some(fresh.to_owned()))?;
        }
        let kept = self.kept();
        let next = kept.next_session.clone().expect("it has just been kept");
        Ok((kept.session.clone(), next))
    }

    /// The plane has taken the session that was begun.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(crate) fn session_begun(&self) -> Result<(), String> {
        self.keep(|kept| {
            if let Some(next) = kept.next_session.take() {
                kept.session = Some(next);
            }
        })
    }
}
