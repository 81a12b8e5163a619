//! Roles: whom an instance's credentials speak for.

use crate::{BY_ROLE, TABLE};
use eventplane_domain::{Reason, Tenant};
use eventplane_engine::Fault;
use eventplane_store::{Condition, FaultKind, Item, ItemExt, Key, Query, Store, StoreFault, Write};
use serde::{Deserialize, Serialize};

/// How many roles a page of a query has.
const PAGE_ITEMS: usize = 100;
/// The longest name ("CreateRole", IAM API reference).
const NAME_CHARS_MAX: usize = 64;
/// What a name may have besides letters and digits ("CreateRole", IAM API reference).
const NAME_ALSO: &[u8] = b"_+=,.@-";
/// The most permissions of a role, and the longest.
const PERMISSIONS_MAX: usize = 50;
const PERMISSION_CHARS_MAX: usize = 256;

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What it permits, in the words of whoever honours its credentials.
    #[serde(default)]
    pub permissions: Vec<String>,
}

pub(crate) fn key(tenant: &Tenant, name: &str) -> Key {
    Key::new(TABLE.name, tenant.partition("roles"), name)
}

fn read(name: &str, item: &Item) -> Result<Role, Fault> {
    let role = item.text("role").and_then(|json| serde_json::from_str(json).ok());
    role.ok_or_else(|| {
        StoreFault::new(FaultKind::Corrupt, format!("role {name}: {:?}", item.keys())).into()
    })
}

fn not_found(name: &str) -> Reason {
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    Reason::new("InvalidIamInstanceProfile.NotFound", format!("there is no role `{name}`"))
}

/// Whether a text can be a role's name; what cannot is never read under.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || NAME_ALSO.contains(&b))
}

fn check(role: &Role) -> Result<(), Reason> {
    let invalid = |message: String| Err(Reason::new("InvalidParameterValue", message));
    if !is_name(&role.name) {
        let right = "1 to 64 letters, digits and `_+=,.@-`";
        return invalid(format!("`name` has to be {right}"));
    }
    let is_permission = |text: &String| (1..=PERMISSION_CHARS_MAX).contains(&text.len());
    if role.permissions.len() > PERMISSIONS_MAX || !role.permissions.iter().all(is_permission) {
        return invalid(format!(
            "`permissions` has to be at most {PERMISSIONS_MAX} texts of 1 to \
             {PERMISSION_CHARS_MAX} characters"
        ));
    }
    if role.description.len() > 1_000 {
        return invalid("`description` has at most 1,000 characters".to_owned());
    }
    Ok(())
}

/// The tenant's roles, by name.
///
/// # Errors
/// A fault of the store.
pub async fn list(store: &dyn Store, tenant: &Tenant) -> Result<Vec<Role>, Fault> {
    let mut query = Query::partition(TABLE.name, tenant.partition("roles"), PAGE_ITEMS);
    let mut roles = Vec::new();
    loop {
        let page = store.query(&query).await?;
        for (key, item) in &page.items {
            roles.push(read(&key.sort, item)?);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(roles),
        }
    }
}

/// One role.
///
/// # Errors
/// A refusal when there is no such role (inner), or a fault of the store.
pub async fn get(
    store: &dyn Store,
    tenant: &Tenant,
    name: &str,
) -> Result<Result<Role, Reason>, Fault> {
    if !is_name(name) {
        return Ok(Err(not_found(name)));
    }
    match store.get(&key(tenant, name)).await? {
        Some(item) => Ok(Ok(read(name, &item)?)),
        None => Ok(Err(not_found(name))),
    }
}

/// Makes a role.
///
/// # Errors
/// A refusal when it is not right or its name is taken (inner), or a fault of the store.
pub async fn create(
    store: &dyn Store,
    tenant: &Tenant,
    role: &Role,
) -> Result<Result<Role, Reason>, Fault> {
    if let Err(reason) = check(role) {
        return Ok(Err(reason));
    }
    let json = serde_json::to_string(role).expect("plain data");
    let write = Write::put(key(tenant, &role.name), Item::new().with("role", json))
        .when(Condition::ItemAbsent);
    if store.try_transact(vec![write]).await? {
        return Ok(Ok(role.clone()));
    }
    let message = format!("there is a role `{}` already", role.name);
    Ok(Err(Reason::new("EntityAlreadyExists.Duplicate", message)))
}

/// Deletes a role, unless an instance holds credentials of it. Whether one does is read from an
/// index, which on DynamoDB shows a launch a moment later: a launch of that very moment is then
/// refused by name, or keeps credentials of a role that is gone.
///
/// # Errors
/// A refusal when there is no such role or it is in use (inner), or a fault of the store.
pub async fn delete(
    store: &dyn Store,
    tenant: &Tenant,
    name: &str,
) -> Result<Result<(), Reason>, Fault> {
    if let Err(reason) = get(store, tenant, name).await? {
        return Ok(Err(reason));
    }
    let holders = Query::index(TABLE.name, BY_ROLE, tenant.partition(name), 1);
    if let Some((holder, _)) = store.query(&holders).await?.items.first() {
        let instance = holder.partition.rsplit('/').next().unwrap_or_default();
        let message = format!("{instance} holds credentials of `{name}`: terminate it first");
        return Ok(Err(Reason::new("DependencyViolation", message)));
    }
    store.try_transact(vec![Write::delete(key(tenant, name))]).await?;
    Ok(Ok(()))
}
