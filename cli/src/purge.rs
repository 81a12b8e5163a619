//! `purge`: deletes what `sam delete` keeps.

use crate::args::Purge;
use crate::problem::Problem;
use crate::show::Screen;

/// `purge`, in a build that knows no AWS.
#[cfg(not(feature = "aws"))]
#[allow(clippy::unused_async, reason = "as the other one")]
pub(crate) async fn purge(_asked: &Purge, _screen: &mut Screen) -> Result<(), Problem> {
    let message = format!("this build does not speak with AWS; {}", crate::reach::WITH_AWS);
    Err(Problem::Input(message))
}

#[cfg(feature = "aws")]
pub(crate) use with_aws::purge;

#[cfg(feature = "aws")]
mod with_aws {
    use super::{Problem, Purge, Screen};
    use crate::confirm::{Owner, confirm, person};
    use crate::kept::{Account, Kept, Key};
    use serde_json::json;
    use std::io::BufRead;

    /// `purge`: looks, tells, asks, and deletes.
    pub(crate) async fn purge(asked: &Purge, screen: &mut Screen) -> Result<(), Problem> {
        let account = Account::from_environment().await?;
        let mut person = person();
        let typed = person.as_mut().map(|person| person as &mut dyn BufRead);
        run(&account, asked, typed, screen).await
    }

    pub(super) async fn run(
        account: &Account,
        asked: &Purge,
        typed: Option<&mut dyn BufRead>,
        screen: &mut Screen,
    ) -> Result<(), Problem> {
        let (stack, region) = (&asked.stack, &account.region);
        if let Some(status) = account.status(stack).await? {
            let message = match status.as_str() {
                "DELETE_IN_PROGRESS" => format!(
                    "the stack {stack} is being deleted in {region}: purge again when it is gone"
                ),
                _ => format!(
                    "the stack {stack} still stands in {region} ({status}): \
                     `sam delete --stack-name {stack}` deletes it and keeps its data; then purge"
                ),
            };
            return Err(Problem::Failed(message));
        }
        let kept = account.kept(stack).await?;
        if kept.unread_keys > 0 {
            let many = kept.unread_keys;
            screen.aside(format!(
                "warning: {many} keys do not let these credentials read their tags"
            ));
        }
        let new: Vec<&Key> = kept.keys.iter().filter(|key| key.goes_at.is_none()).collect();
        if kept.tables.is_empty() && new.is_empty() {
            for key in &kept.keys {
                let at = key.goes_at.as_deref().unwrap_or_default();
                screen.aside(format!("the key {} goes on {at}", key.id));
            }
            let nothing = json!({ "stack": stack, "tables": [], "keys": [] });
            screen
                .either(&nothing, |_| format!("nothing of {stack} is left to delete in {region}"));
            return Ok(());
        }
        show(screen, asked, region, &kept);
        let owner = Owner { kind: "stack", name: stack, option: "--yes-delete" };
        confirm(owner, asked.yes_delete.as_deref(), typed, screen)?;
        delete(account, asked, &kept, &new, screen).await
    }

    /// What will go.
    fn show(screen: &mut Screen, asked: &Purge, region: &str, kept: &Kept) {
        screen.aside(format!("of {} in {region}, for ever:", asked.stack));
        let row = |name: &str, items: String, size: String| vec![name.to_owned(), items, size];
        let tables = kept.tables.iter();
        let mut rows: Vec<_> = tables
            .map(|table| row(&table.name, table.items.to_string(), size(table.bytes)))
            .collect();
        for key in &kept.keys {
            let when = match &key.goes_at {
                Some(at) => format!("goes on {at}"),
                None => format!("goes in {} days", asked.key_days),
            };
            rows.push(row(&format!("key {}", key.id), "-".to_owned(), when));
        }
        let table = screen.table(&["TABLE OR KEY", "ITEMS", "SIZE"], rows);
        screen.aside(table);
        let notes = "DynamoDB counts items every six hours. A table with point-in-time recovery \
            leaves a backup for 35 days. What the key has sealed can be read by nobody once it is \
            gone; until then `aws kms cancel-key-deletion` saves it.";
        screen.aside(screen.wrapped(notes, 0));
    }

    fn size(bytes: i64) -> String {
        match bytes {
            ..1024 => format!("{bytes} B"),
            1024..1_048_576 => format!("{} KiB", bytes / 1024),
            _ => format!("{} MiB", bytes / 1_048_576),
        }
    }

    async fn delete(
        account: &Account,
        asked: &Purge,
        kept: &Kept,
        new: &[&Key],
        screen: &mut Screen,
    ) -> Result<(), Problem> {
        // All are told to go before anybody waits: each takes a while.
        for table in &kept.tables {
            account.delete(table).await?;
        }
        for table in &kept.tables {
            account.gone(table).await?;
            screen.aside(format!("deleted table {}", table.name));
        }
        let mut keys = Vec::new();
        for key in new {
            let at = account.schedule(key, asked.key_days).await?;
            screen.aside(format!("key {} goes on {at}", key.id));
            keys.push(json!({ "key_id": key.id, "goes_on": at }));
        }
        let names: Vec<&str> = kept.tables.iter().map(|table| table.name.as_str()).collect();
        let done = json!({ "stack": asked.stack, "tables": names, "keys": keys });
        screen.either(&done, |_| {
            let (tables, keys) = (names.len(), keys.len());
            format!("purged {}: {tables} tables deleted, {keys} keys scheduled", asked.stack)
        });
        Ok(())
    }
}

#[cfg(test)]
#[cfg(feature = "aws")]
#[path = "purge_tests.rs"]
mod tests;
