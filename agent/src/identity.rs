//! Who a host is: its key, and the session by which the plane tells two agents of one name apart.

use crate::disk::{Disk, replace};
use crate::round::now;
use crate::speech::agent_route;
use crate::transport::{Method, NoAnswer, Request, Signer, Transport};
use async_trait::async_trait;
use axum::http::{HeaderName, HeaderValue};
use eventplane_domain::{HostId, Millis};
use eventplane_keys::host::{HostKey, Signed};
use eventplane_keys::{hex, unhex};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// The file of a host's identity, in its data directory.
const FILE: &str = "identity.json";
/// Where Linux keeps what tells machines apart ("machine-id", Linux manual page).
const MACHINE_ID: &str = "/etc/machine-id";
/// The status of a request that its key does not prove.
pub(crate) const UNAUTHENTICATED: u16 = 401;
/// How old a key may become, in milliseconds, before another takes its place: 30 days.
const KEY_LIVES_MS: i64 = 30 * 24 * 3_600 * 1_000;

/// What is wrong with a host's identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// It cannot be read or written.
    #[error("the identity {0} cannot be used: {1}")]
    File(PathBuf, String),
    /// It is another host's.
    #[error("{0} holds the identity of {1}, not of {2}: give each host a `data_dir` of its own")]
    OtherHost(PathBuf, String, String),
    /// It is another machine's.
    #[error(
        "{0} was made on another machine, where {1} may still run what it was given: enrol this \
         machine under a name of its own, or remove the folder and enrol {1} anew with \
         `eventplane hosts enrol {1} --replace`"
    )]
    OtherMachine(PathBuf, String),
    /// The plane did not take it.
    #[error("not enrolled: {0}")]
    Refused(String),
}

/// What is kept.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    host_id: String,
    /// The machine that it was enrolled on.
    machine_id: String,
    /// What it is enrolled with, until the plane has said that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// What it was enrolled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enrolled_with: Option<String>,
    /// The private half of its key, in hex.
    secret_key: String,
    /// When the key was made, in milliseconds since the epoch.
    key_made_at: i64,
    /// The key that is to take its place, while the plane may know either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_key: Option<String>,
    /// The key of its instances' metadata tokens, in hex.
    token_key: String,
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
    /// Whether it is the next key that signs.
    tries_next: AtomicBool,
}

impl Identity {
    /// The identity that is kept in a data directory; none if no host was enrolled there.
    ///
    /// # Errors
    /// When it cannot be read, or is another host's or machine's.
    pub fn open(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        host_id: &HostId,
    ) -> Result<Option<Identity>, IdentityError> {
        let path = data_dir.join(FILE);
        let wrong = |why: String| IdentityError::File(path.clone(), why);
        let Some(bytes) = disk.read(&path).map_err(|error| wrong(error.to_string()))? else {
            return Ok(None);
        };
        let kept: Kept =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if key_bytes(&kept.secret_key).is_none() || key_bytes(&kept.token_key).is_none() {
            return Err(wrong("a key in it is not 32 bytes in hex".to_owned()));
        }
        if kept.host_id != host_id.as_str() {
            let host_id = host_id.to_string();
            return Err(IdentityError::OtherHost(data_dir.to_owned(), kept.host_id, host_id));
        }
        if kept.machine_id != machine_id() {
            return Err(IdentityError::OtherMachine(data_dir.to_owned(), kept.host_id));
        }
        Ok(Some(Identity::of(disk, path, kept)))
    }

    fn of(disk: Arc<dyn Disk>, path: PathBuf, kept: Kept) -> Identity {
        Identity { disk, path, kept: Mutex::new(kept), tries_next: AtomicBool::new(false) }
    }

    /// Makes an identity that is to be enrolled with this token, or gives the token to one that is
    /// there: if it is another than it was enrolled with, it is to be enrolled anew, with a new key.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn with_token(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        host_id: &HostId,
        token: &str,
    ) -> Result<Identity, IdentityError> {
        if let Some(identity) = Identity::open(disk.clone(), data_dir, host_id)? {
            if identity.kept().enrolled_with.as_deref() != Some(token) {
                identity.keep(|kept| {
                    if kept.token.is_none() {
                        kept.secret_key = random_hex::<32>();
                        (kept.session, kept.next_session, kept.next_key) = (None, None, None);
                    }
                    kept.token = Some(token.to_owned());
                })?;
            }
            return Ok(identity);
        }
        let kept = Kept {
            host_id: host_id.to_string(),
            machine_id: machine_id(),
            token: Some(token.to_owned()),
            enrolled_with: None,
            secret_key: random_hex::<32>(),
            key_made_at: now().0,
            next_key: None,
            token_key: random_hex::<32>(),
            session: None,
            next_session: None,
        };
        let identity = Identity::of(disk, data_dir.join(FILE), kept.clone());
        identity.write(&kept)?;
        Ok(identity)
    }

    /// Enrols the host, if it is not yet: its token is good for this once, and its key from then on.
    ///
    /// # Errors
    /// When the plane does not take it, or is not there.
    pub async fn enrol(&self, transport: &dyn Transport) -> Result<(), IdentityError> {
        let (path, body) = {
            let kept = self.kept();
            let Some(token) = &kept.token else { return Ok(()) };
            let body = json!({ "token": token, "public_key": key(&kept.secret_key).public_hex() });
            (agent_route(&kept.host_id, "enrolment"), body)
        };
        let body = serde_json::to_vec(&body).expect("plain data");
        let answer = transport.send(Method::POST, &path, Some(body)).await;
        let answer = answer.map_err(|error| IdentityError::Refused(error.to_string()))?;
        if answer.is_success() {
            return self.keep(|kept| kept.enrolled_with = kept.token.take());
        }
        let said: Value = answer.json().unwrap_or_default();
        let message = said["error"]["message"].as_str().map(str::to_owned);
        let message = message.unwrap_or_else(|| format!("the plane answered {}", answer.status));
        Err(IdentityError::Refused(message))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, kept: &Kept) -> Result<(), IdentityError> {
        let json = serde_json::to_vec_pretty(kept).expect("plain data");
        replace(&*self.disk, &self.path, &json)
            .map_err(|error| IdentityError::File(self.path.clone(), error.to_string()))
    }

    /// Writes down what is to be kept, and only then keeps it.
    fn keep(&self, change: impl FnOnce(&mut Kept)) -> Result<(), IdentityError> {
        let mut kept = self.kept();
        let mut next = kept.clone();
        change(&mut next);
        self.write(&next)?;
        *kept = next;
        Ok(())
    }

    /// The key that seals the tokens of its instances' metadata services.
    pub(crate) fn token_key(&self) -> [u8; 32] {
        key_bytes(&self.kept().token_key).expect("it was checked when it was read")
    }

    /// The session that the plane is to know from now on, and the one before it. Asked again before
    /// [`Identity::session_begun`], also by an agent that was started anew, it is the same one: the
    /// plane may have taken it, and the answer be lost.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub(crate) fn begin_session(&self) -> Result<(Option<String>, String), IdentityError> {
        if self.kept().next_session.is_none() {
            self.keep(|kept| kept.next_session = Some(random_hex::<16>()))?;
        }
        let kept = self.kept();
        let next = kept.next_session.clone().expect("it has just been kept");
        Ok((kept.session.clone(), next))
    }

    /// The plane has taken the session that was begun.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(crate) fn session_begun(&self) -> Result<(), IdentityError> {
        let has_next_key = self.tries_next.load(Ordering::Relaxed);
        self.keep(|kept| {
            if let Some(next) = kept.next_session.take() {
                kept.session = Some(next);
            }
            if has_next_key {
                kept.take_next_key();
            }
        })
    }

    /// Whether the key has lived for long enough, or another was already begun to take its place.
    pub(crate) fn key_is_due(&self) -> bool {
        let kept = self.kept();
        kept.next_key.is_some() || now().since(Millis(kept.key_made_at)) > KEY_LIVES_MS
    }

    /// Puts another key in the place of the present one. Whether the plane has taken it when the answer
    /// is lost shows with the next requests: see [`Identity::doubt`].
    ///
    /// # Errors
    /// Why the present one stays for now.
    pub(crate) async fn rotate(&self, transport: &dyn Transport) -> Result<(), String> {
        let text = |error: IdentityError| error.to_string();
        if self.kept().next_key.is_none() {
            self.tries_next.store(false, Ordering::Relaxed);
            self.keep(|kept| kept.next_key = Some(random_hex::<32>())).map_err(text)?;
        }
        let (path, next) = {
            let kept = self.kept();
            let next = kept.next_key.clone().expect("it has just been kept");
            (agent_route(&kept.host_id, "key"), next)
        };
        let body = serde_json::to_vec(&json!({ "public_key": key(&next).public_hex() }));
        let sent = transport.send(Method::PUT, &path, Some(body.expect("plain data"))).await;
        let answer = sent.map_err(|error| error.to_string())?;
        if answer.is_success() {
            return self.keep(Kept::take_next_key).map_err(text);
        }
        if answer.status == UNAUTHENTICATED {
            self.doubt();
        }
        Err(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// The plane does not know the key that signed: if another was on its way to take its place, the
    /// plane may have that one already, and the next request is signed with it.
    pub(crate) fn doubt(&self) {
        if self.kept().next_key.is_some() {
            self.tries_next.fetch_xor(true, Ordering::Relaxed);
        }
    }
}

impl Kept {
    fn take_next_key(&mut self) {
        if let Some(next) = self.next_key.take() {
            self.secret_key = next;
            self.key_made_at = now().0;
        }
    }
}

#[async_trait]
impl Signer for Identity {
    async fn sign(&self, request: &mut Request<()>, body: &[u8]) -> Result<(), NoAnswer> {
        let headers = {
            let kept = self.kept();
            let next = kept.next_key.as_ref().filter(|_| self.tries_next.load(Ordering::Relaxed));
            let uri = request.uri();
            // What comes before it is the endpoint's, and not what the plane's router sees.
            let path = uri.path();
            let path = path.find("/v1/").map_or(path, |at| &path[at..]);
            let signed = Signed {
                method: request.method().as_str(),
                path,
                query: uri.query(),
                body,
                session: kept.session.as_deref(),
            };
            let created_s = now().0.div_euclid(1_000);
            key(next.unwrap_or(&kept.secret_key)).sign(&signed, &kept.host_id, created_s)
        };
        for (name, value) in headers {
            let value = HeaderValue::from_str(&value);
            let value = value.map_err(|error| NoAnswer::unsent(format!("{name}: {error}")))?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        Ok(())
    }
}

fn key(secret: &str) -> HostKey {
    HostKey::from_bytes(&key_bytes(secret).expect("it was checked when it was read"))
}

/// Which machine this is; empty where Linux does not say.
fn machine_id() -> String {
    std::fs::read_to_string(MACHINE_ID).unwrap_or_default().trim().to_owned()
}

fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    hex(&bytes)
}

/// The key that is kept as this text.
fn key_bytes(text: &str) -> Option<[u8; 32]> {
    unhex(text)?.try_into().ok()
}
