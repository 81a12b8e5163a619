//! What a deleted stack has left in an account: tables and a key, found by their tag.

use crate::problem::Problem;
use crate::sign::account;
use aws_config::SdkConfig;
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::TableStatus;
use aws_sdk_kms::types::{KeyManagerType, KeyState};
use eventplane_agent::innermost;
use std::error::Error;
use std::time::Duration;

/// The tag that says of which stack a thing was.
const TAG: &str = "eventplane:stack";
/// How often a table is looked at while it changes, and how many times.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOKS_MAX: usize = 240;

/// A table that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// As DynamoDB says, which counts every six hours or so.
    pub(crate) items: i64,
    pub(crate) bytes: i64,
    is_protected: bool,
    /// Whether it is being deleted already.
    is_going: bool,
}

/// A key that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) id: String,
    /// When it goes, if that is settled already.
    pub(crate) goes_at: Option<String>,
}

/// All that was kept of a stack.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) tables: Vec<Table>,
    pub(crate) keys: Vec<Key>,
    /// Keys whose tags these credentials may not read.
    pub(crate) unread_keys: usize,
}

/// The services of one account, in one region.
pub(crate) struct Account {
    stacks: aws_sdk_cloudformation::Client,
    tables: aws_sdk_dynamodb::Client,
    keys: aws_sdk_kms::Client,
    pub(crate) region: String,
}

/// An error of AWS in one line.
pub(crate) fn told<E: ProvideErrorMetadata + Error>(doing: &str, error: &E) -> Problem {
    let why = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => innermost(error),
    };
    Problem::Failed(format!("cannot {doing}: {why}"))
}

impl Account {
    /// The one that the environment and the profile name; `AWS_ENDPOINT_URL` counts.
    pub(crate) async fn from_environment() -> Result<Account, Problem> {
        Account::new(&account().load().await)
    }

    pub(crate) fn new(config: &SdkConfig) -> Result<Account, Problem> {
        let region = config.region().map(ToString::to_string).ok_or_else(|| {
            let message = "no region: set AWS_REGION, or a profile that has one";
            Problem::Input(message.to_owned())
        })?;
        Ok(Account {
            stacks: aws_sdk_cloudformation::Client::new(config),
            tables: aws_sdk_dynamodb::Client::new(config),
            keys: aws_sdk_kms::Client::new(config),
            region,
        })
    }

    /// The status of a stack that exists.
    ///
    /// CloudFormation has no error of its own for one that does not: see "DescribeStacks" in its
    /// API reference.
    pub(crate) async fn status(&self, stack: &str) -> Result<Option<String>, Problem> {
        match self.stacks.describe_stacks().stack_name(stack).send().await {
            Ok(found) => {
                let status = |of: &aws_sdk_cloudformation::types::Stack| {
                    of.stack_status().map_or("UNKNOWN", |status| status.as_str()).to_owned()
                };
                // By its name a deleted stack is not found; by its id it is.
                let statuses = found.stacks().iter().map(status);
                Ok(statuses.into_iter().find(|status| status != "DELETE_COMPLETE"))
            }
            Err(error)
                if error.code() == Some("ValidationError")
                    && error.message().is_some_and(|text| text.contains("does not exist")) =>
            {
                Ok(None)
            }
            Err(error) => Err(told("ask for the stack", &error)),
        }
    }

    /// What carries the stack's tag.
    pub(crate) async fn kept(&self, stack: &str) -> Result<Kept, Problem> {
        let mut kept = Kept { tables: self.kept_tables(stack).await?, ..Kept::default() };
        self.kept_keys(stack, &mut kept).await?;
        Ok(kept)
    }

    async fn kept_tables(&self, stack: &str) -> Result<Vec<Table>, Problem> {
        let mut names = self.tables.list_tables().into_paginator().items().send();
        let mut tables = Vec::new();
        while let Some(name) = names.next().await {
            let name = name.map_err(|error| told("list the tables", &error))?;
            let Some((table, arn)) = self.table(&name).await? else { continue };
            if self.is_tagged(&arn, stack).await? {
                tables.push(table);
            }
        }
        Ok(tables)
    }

    /// The table of this name with its ARN, unless there is none.
    async fn table(&self, name: &str) -> Result<Option<(Table, String)>, Problem> {
        let found = match self.tables.describe_table().table_name(name).send().await {
            Ok(found) => found.table,
            Err(error) if error.code() == Some("ResourceNotFoundException") => None,
            Err(error) => return Err(told(&format!("look at the table {name}"), &error)),
        };
        Ok(found.map(|of| {
            let table = Table {
                name: name.to_owned(),
                items: of.item_count.unwrap_or(0),
                bytes: of.table_size_bytes.unwrap_or(0),
                is_protected: of.deletion_protection_enabled.unwrap_or(false),
                is_going: of.table_status == Some(TableStatus::Deleting),
            };
            (table, of.table_arn.unwrap_or_default())
        }))
    }

    async fn is_tagged(&self, arn: &str, stack: &str) -> Result<bool, Problem> {
        let mut next = None;
        loop {
            let asked = self.tables.list_tags_of_resource().resource_arn(arn);
            let page = asked.set_next_token(next).send().await;
            let page = page.map_err(|error| told(&format!("read the tags of {arn}"), &error))?;
            if page.tags().iter().any(|tag| tag.key() == TAG && tag.value() == stack) {
                return Ok(true);
            }
            match page.next_token {
                Some(token) => next = Some(token),
                None => return Ok(false),
            }
        }
    }

    async fn kept_keys(&self, stack: &str, kept: &mut Kept) -> Result<(), Problem> {
        let mut keys = self.keys.list_keys().into_paginator().items().send();
        while let Some(key) = keys.next().await {
            let key = key.map_err(|error| told("list the keys", &error))?;
            let Some(id) = key.key_id() else { continue };
            let mut tags =
                self.keys.list_resource_tags().key_id(id).into_paginator().items().send();
            let mut is_ours = false;
            while let Some(tag) = tags.next().await {
                match tag {
                    Ok(tag) => is_ours |= tag.tag_key() == TAG && tag.tag_value() == stack,
                    // A key's own policy says who may read its tags: others' keys say no.
                    Err(error) if error.code() == Some("AccessDeniedException") => {
                        kept.unread_keys += 1;
                        break;
                    }
                    Err(error) => return Err(told(&format!("read the tags of key {id}"), &error)),
                }
            }
            if is_ours {
                kept.keys.extend(self.key(id).await?);
            }
        }
        Ok(())
    }

    /// The key of this id, if it is its owner's to delete.
    async fn key(&self, id: &str) -> Result<Option<Key>, Problem> {
        let found = self.keys.describe_key().key_id(id).send().await;
        let found = found.map_err(|error| told(&format!("look at key {id}"), &error))?;
        let Some(of) = found.key_metadata else { return Ok(None) };
        if of.key_manager == Some(KeyManagerType::Aws) {
            return Ok(None);
        }
        let goes = of.key_state == Some(KeyState::PendingDeletion);
        let goes_at = goes.then(|| date(of.deletion_date.as_ref()));
        Ok(Some(Key { id: id.to_owned(), goes_at }))
    }

    /// Begins to delete a table, its protection first.
    pub(crate) async fn delete(&self, table: &Table) -> Result<(), Problem> {
        let name = &table.name;
        if table.is_going {
            return Ok(());
        }
        if table.is_protected {
            let update = self.tables.update_table().table_name(name);
            let update = update.deletion_protection_enabled(false).send().await;
            update.map_err(|error| told(&format!("unprotect the table {name}"), &error))?;
        }
        for _ in 0..LOOKS_MAX {
            match self.tables.delete_table().table_name(name).send().await {
                Ok(_) => return Ok(()),
                Err(error) => match error.code() {
                    Some("ResourceNotFoundException") => return Ok(()),
                    // It is still being changed, or deleted by somebody else.
                    Some("ResourceInUseException") => tokio::time::sleep(LOOK_EVERY).await,
                    _ => return Err(told(&format!("delete the table {name}"), &error)),
                },
            }
        }
        Err(Problem::TimedOut(format!("the table {name} is still being changed: try again")))
    }

    /// Waits until a table is gone.
    pub(crate) async fn gone(&self, table: &Table) -> Result<(), Problem> {
        for _ in 0..LOOKS_MAX {
            if self.table(&table.name).await?.is_none() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let message = format!("the table {} is still being deleted; it will go", table.name);
        Err(Problem::TimedOut(message))
    }

    /// Schedules the deletion of a key, and says when it goes.
    pub(crate) async fn schedule(&self, key: &Key, days: i32) -> Result<String, Problem> {
        let asked = self.keys.schedule_key_deletion().key_id(&key.id);
        let done = asked.pending_window_in_days(days).send().await;
        let done = done.map_err(|error| told(&format!("delete key {}", key.id), &error))?;
        Ok(date(done.deletion_date.as_ref()))
    }
}

/// A moment as its day.
fn date(moment: Option<&aws_sdk_kms::primitives::DateTime>) -> String {
    let text = moment
        .and_then(|moment| moment.fmt(aws_sdk_kms::primitives::DateTimeFormat::DateTime).ok());
    text.and_then(|text| text.get(..10).map(str::to_owned)).unwrap_or_else(|| "soon".to_owned())
}
