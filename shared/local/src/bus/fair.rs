//! What waits in an inbox, in fair shares: tenants take turns, so that one with many messages makes
//! itself wait and nobody else. On AWS fair queues do this, by the message group that the template's
//! rules set.
//!
//! Source: "Amazon SQS fair queues", SQS developer guide.

use super::queue::Message;
use eventplane_engine::Dice;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What stands before the tenant's name in the metadata of every event. In a text that an event
/// carries it would be escaped, so the first place is the metadata's own.
const TENANT: &str = r#""tenant":""#;

/// The tenant of the event in `text`: nobody's if it names none. The whole is not parsed for it.
pub(super) fn tenant_of(text: &str) -> &str {
    let named = text.find(TENANT).map(|at| &text[at + TENANT.len()..]);
    named.and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

/// Messages that can be handed out.
#[derive(Default)]
pub(super) struct Ready {
    /// What waits for each tenant that has something waiting, in the order of arrival.
    lines: HashMap<Arc<str>, VecDeque<Message>>,
    /// These tenants, the next one first.
    turns: VecDeque<Arc<str>>,
    len: usize,
}

impl Ready {
    /// How many messages wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lets a message wait behind the others of its tenant.
    pub(super) fn push(&mut self, message: Message) {
        self.len += 1;
        if let Some(line) = self.lines.get_mut(&message.tenant) {
            line.push_back(message);
            return;
        }
        self.turns.push_back(message.tenant.clone());
        self.lines.insert(message.tenant.clone(), VecDeque::from([message]));
    }

    /// Takes a message of the tenant whose turn it is: its oldest, or with dice any.
    pub(super) fn pop(&mut self, dice: Option<&mut Dice>) -> Option<Message> {
        let tenant = self.turns.pop_front()?;
        let line = self.lines.get_mut(&tenant)?;
        let message = match dice {
            Some(dice) => line.swap_remove_back(dice.below(line.len())),
            None => line.pop_front(),
        };
        if line.is_empty() {
            self.lines.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        self.len -= usize::from(message.is_some());
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tenant: &str, n: usize) -> Message {
        let (body, tenant) = (format!("{tenant}{n}").into(), tenant.into());
        Message { body, tenant, received: 0, letter: None }
    }

    fn all(ready: &mut Ready, mut dice: Option<Dice>) -> String {
        let mut taken = String::new();
        while let Some(message) = ready.pop(dice.as_mut()) {
            taken += &message.tenant;
        }
        assert_eq!(ready.len(), 0);
        taken
    }

    #[test]
    fn the_tenant_is_the_metadatas_whatever_else_a_message_says() {
        let named =
            r#"{"detail":{"metadata":{"subject":"i-1","tenant":"acme"},"data":{"tenant":"b"}}}"#;
        let escaped = r#"{"detail":{"metadata":{"id":"\"tenant\":\"b\"","tenant":"acme"}}}"#;
        for (body, tenant) in [
            (named, "acme"),
            (escaped, "acme"),
            (r#"{"detail":{"n":1}}"#, ""),
            (r#"{"detail":{"tenant":17}}"#, ""),
            ("no event", ""),
            (r#""tenant":""#, ""),
        ] {
            assert_eq!(tenant_of(body), tenant, "{body}");
        }
    }

    #[test]
    fn tenants_take_turns_however_many_messages_one_has() {
        let mut ready = Ready::default();
        (0..20).for_each(|n| ready.push(message("a", n)));
        (0..2).for_each(|n| ready.push(message("b", n)));
        ready.push(message("c", 0));
        assert_eq!(ready.len(), 23);
        assert_eq!(all(&mut ready, None), format!("abcab{}", "a".repeat(18)));
        (0..5).for_each(|n| ready.push(message("a", n)));
        (0..3).for_each(|n| ready.push(message("b", n)));
        assert_eq!(all(&mut ready, Some(Dice::new(7))), "abababaa", "shuffled within a tenant");
    }

    #[test]
    fn the_messages_of_one_tenant_keep_their_order_and_none_is_lost() {
        let mut ready = Ready::default();
        for n in 0..100 {
            ready.push(message(["a", "b", "c"][n % 3], n));
        }
        let mut bodies: HashMap<String, Vec<String>> = HashMap::new();
        while let Some(message) = ready.pop(None) {
            let line = bodies.entry(message.tenant.to_string()).or_default();
            line.push(message.body.to_string());
        }
        for (at, tenant) in ["a", "b", "c"].into_iter().enumerate() {
            let right: Vec<String> =
                (at..100).step_by(3).map(|n| message(tenant, n).body.to_string()).collect();
            assert_eq!(bodies[tenant], right);
        }
    }
}
