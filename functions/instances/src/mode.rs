//! The mode that the plane is in, as it is stored: one item, which the sweeper's rules and operators
//! write, and every process of the api reads now and then.

use crate::TABLE;
use eventplane_domain::{Millis, Mode};
use eventplane_engine::Fault;
use eventplane_store::{
    Condition, FaultKind, Item, ItemExt, Key, StoreFault, Update, Value, Write,
};

/// The mode, since when, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The mode.
    pub mode: Mode,
    /// Since when it holds.
    pub since: Millis,
    /// Why, in words.
    pub reason: String,
    /// Whether an operator has set it: then no rule changes it.
    pub is_set: bool,
    /// Since when every sweep has failed, if the last one has.
    pub failing_since: Option<Millis>,
}

const MODE: &str = "mode";
const SINCE: &str = "since";
const FAILING: &str = "failing";

/// Where the mode is kept.
#[must_use]
pub fn mode_key() -> Key {
    Key::new(TABLE.name, "@plane/mode", "mode")
}

impl Default for Standing {
    /// As nobody has written anything yet.
    fn default() -> Self {
        Standing {
            mode: Mode::Normal,
            since: Millis(0),
            reason: "nothing is known against it".to_owned(),
            is_set: false,
            failing_since: None,
        }
    }
}

impl Standing {
    /// Writes it, if what stands there is still `before`. Each part is set by itself, since that is
    /// what the sweeper may do.
    #[must_use]
    pub fn write(&self, before: Option<&Standing>) -> Write {
        let mut updates = vec![
            Update::set(MODE, self.mode.name()),
            Update::set(SINCE, self.since.0),
            Update::set("reason", self.reason.as_str()),
            Update::set("set", self.is_set),
        ];
        updates.push(match self.failing_since {
            Some(since) => Update::set(FAILING, since.0),
            None => Update::remove(FAILING),
        });
        let unchanged = match before {
            None => vec![Condition::ItemAbsent],
            Some(before) => vec![
                Condition::equals(MODE, before.mode.name()),
                Condition::equals(SINCE, before.since.0),
                Condition::equals("set", before.is_set),
                match before.failing_since {
                    Some(since) => Condition::equals(FAILING, since.0),
                    None => Condition::absent(FAILING),
                },
            ],
        };
        Write::update(mode_key(), updates).when_all(unchanged)
    }

    /// Reads the mode that `item` is.
    ///
    /// # Errors
    /// A fault when it is none.
    pub fn read(item: &Item) -> Result<Standing, Fault> {
        let read = || {
            Some(Standing {
                mode: Mode::of_name(item.text(MODE)?)?,
                since: Millis(item.number(SINCE)?),
                reason: item.text("reason")?.to_owned(),
                is_set: matches!(item.get("set"), Some(Value::Bool(true))),
                failing_since: item.number(FAILING).map(Millis),
            })
        };
        read().ok_or_else(|| {
            let message = format!("not a mode: {:?}", item.keys());
            Fault::Store(StoreFault::new(FaultKind::Corrupt, message))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_store::{apply, holds};

    #[test]
    fn a_mode_comes_back_as_it_was_written_and_only_over_what_was_read() {
        let first = Standing { failing_since: Some(Millis(7)), ..Standing::default() };
        let second = Standing {
            mode: Mode::TerminateOnly,
            since: Millis(9),
            reason: "a drill".to_owned(),
            is_set: true,
            failing_since: None,
        };
        let is_allowed = |write: &Write, item: Option<&Item>| {
            write.conditions.iter().all(|condition| holds(condition, item))
        };
        let write = first.write(None);
        assert!(is_allowed(&write, None));
        let item = apply(write.action.clone(), None);
        assert!(!is_allowed(&write, item.as_ref()), "somebody has written meanwhile");
        assert_eq!(Standing::read(item.as_ref().expect("an item")).expect("a mode"), first);
        let write = second.write(Some(&first));
        assert!(is_allowed(&write, item.as_ref()));
        let item = apply(write.action.clone(), item);
        assert!(!is_allowed(&write, item.as_ref()));
        assert_eq!(Standing::read(item.as_ref().expect("an item")).expect("a mode"), second);
    }
}
