//! What the plane knows of a host's agent: the key that it signs with, and which session of it
//! speaks for the host. What becomes of it is decided by pure functions; [`change`] makes it so.

use crate::host::{ENROLLED, Host, HostState, host_key};
use eventplane_domain::{HostId, Millis, Reason};
use eventplane_engine::{Fault, TRIES_MAX};
use eventplane_store::{
    Condition, FaultKind, Item, ItemExt, Key, Store, StoreFault, Update, Write,
};

const PUBLIC_KEY: &str = "public_key";
const ENROLLED_AT: &str = "enrolled_at";
const SESSION: &str = "session";
const REVOKED: &str = "revoked";
const TOKEN: &str = "token";
const TOKEN_UNTIL: &str = "token_until";
const TOKEN_USED: &str = "token_used";

/// Where it is kept what is known of a host's agent.
#[must_use]
pub fn agent_key(host: &HostId) -> Key {
    Key::new(crate::TABLE.name, format!("@agent/{host}"), "agent")
}

/// The agent of a host, from the first token that was given for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Agent {
    /// Its public key, 64 digits in hex, once it has enrolled.
    pub public_key: Option<String>,
    /// When it enrolled.
    pub enrolled_at: Option<Millis>,
    /// The session that speaks for the host; none before the first registration.
    pub session: Option<String>,
    /// Whether an operator has revoked its key.
    pub is_revoked: bool,
    /// The newest token that was given for it.
    pub token: Option<Token>,
}

/// A token that lets one agent enrol, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The SHA-256 of the token, in hex: the token itself is kept nowhere.
    pub hash: String,
    /// Until when it may be used.
    pub until: Millis,
    /// Whether it was used.
    pub is_used: bool,
}

impl Agent {
    /// Reads the agent that `item` is.
    ///
    /// # Errors
    /// A fault when it is not one: somebody has to look at the table.
    pub fn read(item: Option<&Item>) -> Result<Option<Agent>, Fault> {
        let Some(item) = item else { return Ok(None) };
        let text = |name| item.text(name).map(str::to_owned);
        let token = text(TOKEN).map(|hash| {
            let until = item.number(TOKEN_UNTIL).map(Millis)?;
            Some(Token { hash, until, is_used: item.is_true(TOKEN_USED) })
        });
        if token == Some(None) {
            let message = format!("not an agent: {:?}", item.keys());
            return Err(StoreFault::new(FaultKind::Corrupt, message).into());
        }
        Ok(Some(Agent {
            public_key: text(PUBLIC_KEY),
            enrolled_at: item.number(ENROLLED_AT).map(Millis),
            session: text(SESSION),
            is_revoked: item.is_true(REVOKED),
            token: token.flatten(),
        }))
    }

    fn item(&self) -> Item {
        let token = self.token.as_ref();
        Item::new()
            .with_some(PUBLIC_KEY, self.public_key.as_deref())
            .with_some(ENROLLED_AT, self.enrolled_at.map(|at| at.0))
            .with_some(SESSION, self.session.as_deref())
            .with_some(REVOKED, self.is_revoked.then_some(true))
            .with_some(TOKEN, token.map(|token| token.hash.as_str()))
            .with_some(TOKEN_UNTIL, token.map(|token| token.until.0))
            .with_some(TOKEN_USED, token.is_some_and(|token| token.is_used).then_some(true))
    }

    /// Writes it, if what stands there is still `before`.
    fn write(&self, host: &HostId, before: Option<&Agent>) -> Write {
        let write = Write::put(agent_key(host), self.item());
        let Some(before) = before.map(Agent::item) else {
            return write.when(Condition::ItemAbsent);
        };
        write.when_all([PUBLIC_KEY, SESSION, REVOKED, TOKEN, TOKEN_USED].map(|name| {
            match before.get(name) {
                Some(value) => Condition::equals(name, value.clone()),
                None => Condition::absent(name),
            }
        }))
    }
}

/// Gives out a token of this hash. One that was given before and is not used is good no more.
///
/// # Errors
/// A refusal when the host's agent has a key that is good: then it takes `replace`.
pub fn give_token(
    agent: Option<&Agent>,
    host: Option<&Host>,
    hash: &str,
    until: Millis,
    replace: bool,
) -> Result<Agent, Reason> {
    let has_key = agent.is_some_and(|agent| agent.public_key.is_some() && !agent.is_revoked);
    let is_dead = host.is_some_and(|host| host.state == HostState::Dead);
    if has_key && !is_dead && !replace {
        let message = "the host is enrolled, and its agent has a key: with `replace` the next one \
                       that enrols takes its place, and the one that speaks now is shut out then";
        return Err(Reason::new("IncorrectHostState", message));
    }
    let token = Some(Token { hash: hash.to_owned(), until, is_used: false });
    Ok(Agent { token, ..agent.cloned().unwrap_or_default() })
}

/// Enrols the agent that shows a token of this hash, with its public key; `None` when the same was
/// done before, and only the answer was lost. Whoever spoke for the host before is shut out.
///
/// # Errors
/// A refusal when the token is not the newest one, is too old, or was used with another key.
pub fn enrol(
    agent: Option<&Agent>,
    hash: &str,
    public_key: &str,
    now: Millis,
) -> Result<Option<Agent>, Reason> {
    let known = agent.and_then(|agent| agent.token.as_ref()).filter(|token| token.hash == hash);
    let (Some(agent), Some(token)) = (agent, known) else {
        return Err(invalid_token(
            "the token is not one that was given for this host, or a newer \
                                  one was given since",
        ));
    };
    if token.is_used && agent.public_key.as_deref() == Some(public_key) {
        return Ok(None);
    }
    if token.is_used {
        let message = "the token was used with another key: each enrols one agent once";
        return Err(Reason::new("EnrolmentTokenUsed", message));
    }
    if now > token.until {
        let late_s = now.since(token.until) / 1000;
        return Err(invalid_token(&format!("the token was good until {late_s} s ago")));
    }
    Ok(Some(Agent {
        public_key: Some(public_key.to_owned()),
        enrolled_at: Some(now),
        token: Some(Token { is_used: true, ..token.clone() }),
        ..Agent::default()
    }))
}

fn invalid_token(why: &str) -> Reason {
    let message = format!("{why}; `eventplane hosts enrol HOST_ID` gives a new one");
    Reason::new("InvalidEnrolmentToken", message)
}

/// Lets `session` speak for the host, in place of `previous`; `None` when it does already. So the
/// second of two agents with one key is shut out, or shuts the first one out knowing of it.
///
/// # Errors
/// A refusal when another session speaks than `previous`.
pub fn begin_session(
    host: &HostId,
    agent: &Agent,
    previous: Option<&str>,
    session: &str,
) -> Result<Option<Agent>, Reason> {
    match agent.session.as_deref() {
        Some(speaks) if speaks == session => Ok(None),
        speaks if speaks == previous => {
            Ok(Some(Agent { session: Some(session.to_owned()), ..agent.clone() }))
        }
        _ => Err(fenced(host)),
    }
}

/// The refusal of an agent whose session is not the one that speaks for the host.
#[must_use]
pub fn fenced(host: &HostId) -> Reason {
    let message = format!(
        "another agent speaks for {host}: this one has to stop. If it is the right one, \
         `eventplane hosts enrol {host} --replace` gives a token to enrol it anew with"
    );
    Reason::new("HostFenced", message)
}

/// Changes the key that `signed` the request to another; `None` when it is that one already.
///
/// # Errors
/// A refusal when the key or the session is no longer the one that signed.
pub fn change_key(
    host: &HostId,
    agent: &Agent,
    signed: (&str, Option<&str>),
    public_key: &str,
) -> Result<Option<Agent>, Reason> {
    let speaks = (agent.public_key.as_deref(), agent.session.as_deref());
    if speaks != (Some(signed.0), signed.1) || agent.is_revoked {
        return Err(fenced(host));
    }
    let changed = Agent { public_key: Some(public_key.to_owned()), ..agent.clone() };
    Ok((signed.0 != public_key).then_some(changed))
}

/// Revokes the key, and a token that is not used yet; `None` when there is nothing left to revoke.
///
/// # Errors
/// A refusal when there never was either.
pub fn revoke(host: &HostId, agent: Option<&Agent>) -> Result<Option<Agent>, Reason> {
    let Some(agent) = agent else {
        let message = format!("{host} is not enrolled: there is no key to revoke");
        return Err(Reason::new("InvalidHostKey.NotFound", message));
    };
    let is_revoked = agent.public_key.is_some();
    let revoked = Agent { is_revoked, token: None, ..agent.clone() };
    Ok((revoked != *agent).then_some(revoked))
}

/// Changes what is known of a host's agent to what `decide` says, if it says anything, and looks
/// again while others change it at the same time. What stands then is returned.
///
/// # Errors
/// A refusal of `decide` (inner), or a fault of the store.
pub async fn change(
    store: &dyn Store,
    id: &HostId,
    mut decide: impl FnMut(Option<&Agent>, Option<&Host>) -> Result<Option<Agent>, Reason> + Send,
) -> Result<Result<Agent, Reason>, Fault> {
    for _ in 0..TRIES_MAX {
        let items = store.batch_get(&[agent_key(id), host_key(id)]).await?;
        let before = Agent::read(items[0].as_ref())?;
        let host = items[1].as_ref().map(|item| Host::read(id, item)).transpose()?;
        let after = match decide(before.as_ref(), host.as_ref()) {
            Ok(Some(after)) => after,
            Ok(None) => return Ok(Ok(before.unwrap_or_default())),
            Err(reason) => return Ok(Err(reason)),
        };
        let mut writes = vec![after.write(id, before.as_ref())];
        // From its agent's enrolment on, a host that was simulated speaks for itself.
        if after.public_key.is_some() && host.is_some_and(|host| !host.is_enrolled) {
            let mark = Write::update(host_key(id), vec![Update::set(ENROLLED, true)]);
            writes.push(mark.when(Condition::ItemPresent));
        }
        if store.try_transact(writes).await? {
            return Ok(Ok(after));
        }
    }
    Err(Fault::Contention { tries: TRIES_MAX, contended: agent_key(id).to_string() })
}

#[cfg(test)]
#[path = "agents_tests.rs"]
mod tests;
