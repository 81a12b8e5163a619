//! Images: the catalogue that everybody has, and each tenant's own.
//!
//! A launch takes what it needs of its image (the root volume's size and device) into its
//! specification, so an image that is deleted later breaks no launch and no later generation.

use crate::{TABLE, corrupt};
use eventplane_domain::{InstanceId, Millis, Reason, Tenant, VolumeSpec};
use eventplane_engine::Fault;
use eventplane_store::{Condition, Item, ItemExt, Key, Query, Store, TransactError, Write};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// The shortest and the longest name of an image.
///
/// Source: "RegisterImage", EC2 API reference.
pub const NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=128;
/// What a name may have besides letters and digits ("RegisterImage", EC2 API reference).
const NAME_ALSO: &str = "()[] ./-'@_";
/// The smallest and the largest root volume, in GiB: those of gp3 ("EbsBlockDevice", EC2 API
/// reference).
pub const ROOT_GIB: std::ops::RangeInclusive<u32> = 1..=16_384;
/// The type of root volumes.
const ROOT_TYPE: &str = "gp3";
/// What a gp3 volume has at least, and if nothing else is said ("EbsBlockDevice", EC2 API
/// reference).
const ROOT_IOPS: u32 = 3_000;
/// The root device of tenants' own images, one of the two names for it ("Device naming on Linux
/// instances", EC2 user guide).
const ROOT_DEVICE: &str = "/dev/xvda";
/// How many images are read at once.
const PAGE_IMAGES: usize = 100;
/// What an image's id looks like.
const IMAGE_ID_FORM: &str = "an image id: `ami-` and 17 hexadecimal digits (0-9, a-f)";

/// A processor's architecture, in EC2's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Architecture {
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    Arm64,
}

impl Architecture {
    /// The name, as EC2 has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// The architecture of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Architecture> {
        [Architecture::X86_64, Architecture::Arm64].into_iter().find(|this| this.name() == name)
    }
}

/// What a root volume is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// `ami-` and 17 hex digits.
    pub image_id: String,
    /// Its name: no other image of the tenant has it.
    pub name: String,
    /// The processors that it runs on.
    pub architecture: Architecture,
    /// The name under which an instance sees its root volume.
    pub root_device: String,
    /// The size of the root volume, in GiB.
    pub root_gib: u32,
    /// Whether it is the tenant's own; those of the catalogue are everybody's.
    #[serde(default, skip_deserializing)]
    pub is_own: bool,
}

impl Image {
    /// The root volume of an instance that is launched from it. It goes with the instance, as in
    /// EC2 ("Preserve data when an instance is terminated", EC2 user guide).
    #[must_use]
    pub fn root_volume(&self) -> VolumeSpec {
        VolumeSpec {
            device: self.root_device.clone(),
            volume_type: ROOT_TYPE.to_owned(),
            size_gib: self.root_gib,
            iops: ROOT_IOPS,
            delete_on_termination: true,
        }
    }

    fn item(&self) -> Item {
        Item::new()
            .with("name", self.name.as_str())
            .with("arch", self.architecture.name())
            .with("device", self.root_device.as_str())
            .with("gib", i64::from(self.root_gib))
    }

    fn read(key: &Key, item: &Item) -> Result<Image, Fault> {
        let read = || {
            Some(Image {
                image_id: key.sort.clone(),
                name: item.text("name")?.to_owned(),
                architecture: Architecture::of_name(item.text("arch")?)?,
                root_device: item.text("device")?.to_owned(),
                root_gib: u32::try_from(item.number("gib")?).ok()?,
                is_own: true,
            })
        };
        read().ok_or_else(|| corrupt(format!("not an image: {key}: {:?}", item.keys())))
    }
}

/// The catalogue, from `infra/catalogue/images.json`: the image of a launch that names none comes
/// first.
///
/// # Panics
/// When the file is not a catalogue; a test reads it.
#[must_use]
pub fn catalogue() -> &'static [Image] {
    static CATALOGUE: LazyLock<Vec<Image>> = LazyLock::new(|| {
        let json = include_str!("../../../infra/catalogue/images.json");
        serde_json::from_str(json).expect("the catalogue of images is one")
    });
    &CATALOGUE
}

/// The image of a launch that names none.
#[must_use]
pub fn default_image(architecture: Architecture) -> Option<&'static Image> {
    catalogue().iter().find(|image| image.architecture == architecture)
}

fn image_key(tenant: &Tenant, image_id: &str) -> Key {
    Key::new(TABLE.name, tenant.partition("images"), image_id)
}

/// Where it is kept which image of the tenant has a name.
fn name_key(tenant: &Tenant, name: &str) -> Key {
    Key::new(TABLE.name, tenant.partition("image-names"), name)
}

fn is_id(text: &str) -> bool {
    text.strip_prefix("ami-").is_some_and(|digits| {
        digits.len() == 17 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The image of that id, if the tenant may launch from it.
///
/// # Errors
/// A fault of the store.
pub async fn find(
    store: &dyn Store,
    tenant: &Tenant,
    image_id: &str,
) -> Result<Option<Image>, Fault> {
    if let Some(image) = catalogue().iter().find(|image| image.image_id == image_id) {
        return Ok(Some(image.clone()));
    }
    if !is_id(image_id) {
        return Ok(None);
    }
    let key = image_key(tenant, image_id);
    let item = store.get(&key).await?;
    item.map(|item| Image::read(&key, &item)).transpose()
}

/// All images that the tenant may launch from: the catalogue, then its own, oldest first.
///
/// # Errors
/// A fault of the store.
pub async fn list(store: &dyn Store, tenant: &Tenant) -> Result<Vec<Image>, Fault> {
    let mut all = catalogue().to_vec();
    let mut query = Query::partition(TABLE.name, tenant.partition("images"), PAGE_IMAGES);
    loop {
        let page = store.query(&query).await?;
        for (key, item) in &page.items {
            all.push(Image::read(key, item)?);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(all),
        }
    }
}

/// What a new image is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// Its name; see [`NAME_CHARS`].
    pub name: String,
    /// The processors that it runs on.
    pub architecture: Architecture,
    /// The size of the root volume in GiB; see [`ROOT_GIB`].
    pub root_gib: u32,
}

/// Makes an image of the tenant's own; `chance` tells those of one millisecond apart. Refused when
/// the name cannot be one (`InvalidAMIName.Malformed`) or is taken (`InvalidAMIName.Duplicate`),
/// or the size is out of range (`InvalidParameterValue`); codes as in "Error codes for the Amazon
/// EC2 API".
///
/// # Errors
/// A fault of the store.
pub async fn create(
    store: &dyn Store,
    tenant: &Tenant,
    new: NewImage,
    now: Millis,
    chance: u64,
) -> Result<Result<Image, Reason>, Fault> {
    if let Err(reason) = check(&new) {
        return Ok(Err(reason));
    }
    let NewImage { name, architecture, root_gib } = new;
    let image_id = format!("ami-{}", InstanceId::new(now, chance).digits());
    let root_device = ROOT_DEVICE.to_owned();
    let image = Image { image_id, name, architecture, root_device, root_gib, is_own: true };
    let claim = Item::new().with("image", image.image_id.as_str());
    let (key, name_key) = (image_key(tenant, &image.image_id), name_key(tenant, &image.name));
    let writes = vec![
        Write::put(name_key.clone(), claim).when(Condition::ItemAbsent),
        Write::put(key, image.item()).when(Condition::ItemAbsent),
    ];
    match store.transact(writes).await {
        Ok(()) => Ok(Ok(image)),
        Err(TransactError::ConditionFailed(failed)) => {
            let Some(taken) = failed.iter().find(|failed| failed.key == name_key) else {
                return Err(Fault::Contention { tries: 1, contended: failed[0].key.to_string() });
            };
            let owner = taken.item.as_ref().and_then(|item| item.text("image"));
            let message = format!(
                "{} has the name `{}` already: take another name, or delete it first",
                owner.unwrap_or("another image"),
                image.name
            );
            Ok(Err(Reason::new("InvalidAMIName.Duplicate", message)))
        }
        Err(TransactError::Fault(fault)) => Err(fault.into()),
    }
}

/// Whether there can be such an image.
fn check(new: &NewImage) -> Result<(), Reason> {
    let good = |c: char| c.is_ascii_alphanumeric() || NAME_ALSO.contains(c);
    if !NAME_CHARS.contains(&new.name.chars().count()) || !new.name.chars().all(good) {
        let message = format!(
            "a name has {} to {} characters: letters, digits, spaces and {}",
            NAME_CHARS.start(),
            NAME_CHARS.end(),
            NAME_ALSO.replace(' ', "")
        );
        return Err(Reason::new("InvalidAMIName.Malformed", message));
    }
    if let Some(image) = catalogue().iter().find(|image| image.name == new.name) {
        let message = format!("{} of the catalogue has the name already", image.image_id);
        return Err(Reason::new("InvalidAMIName.Duplicate", message));
    }
    if !ROOT_GIB.contains(&new.root_gib) {
        let (least, most) = (ROOT_GIB.start(), ROOT_GIB.end());
        let message = format!("root_gib is {}, it can be {least} to {most} GiB", new.root_gib);
        return Err(Reason::new("InvalidParameterValue", message));
    }
    Ok(())
}

/// The image of that id. Refused when there is none (`InvalidAMIID.NotFound`), or when it is no
/// image's id (`InvalidAMIID.Malformed`).
///
/// # Errors
/// A fault of the store.
pub async fn get(
    store: &dyn Store,
    tenant: &Tenant,
    image_id: &str,
) -> Result<Result<Image, Reason>, Fault> {
    if !is_id(image_id) {
        let given: String = image_id.chars().take(64).collect();
        let message = format!("`{given}` is not {IMAGE_ID_FORM}");
        return Ok(Err(Reason::new("InvalidAMIID.Malformed", message)));
    }
    Ok(find(store, tenant, image_id).await?.ok_or_else(|| not_found(image_id)))
}

fn not_found(image_id: &str) -> Reason {
    let message = format!("there is no image {image_id}: `GET /v1/images` lists them");
    Reason::new("InvalidAMIID.NotFound", message)
}

/// Deletes an image of the tenant's own. Refused when it is one of the catalogue
/// (`OperationNotPermitted`), and as [`get`] is. Instances that were launched from it run on, as in
/// EC2 ("DeregisterImage", EC2 API reference); whoever wants to refuse that looks for them first.
///
/// # Errors
/// A fault of the store.
pub async fn delete(
    store: &dyn Store,
    tenant: &Tenant,
    image_id: &str,
) -> Result<Result<(), Reason>, Fault> {
    let image = match get(store, tenant, image_id).await? {
        Ok(image) => image,
        Err(reason) => return Ok(Err(reason)),
    };
    if !image.is_own {
        let message = format!("{image_id} is of the catalogue, only your own can be deleted");
        return Ok(Err(Reason::new("OperationNotPermitted", message)));
    }
    let writes = vec![
        Write::delete(image_key(tenant, image_id)).when(Condition::ItemPresent),
        Write::delete(name_key(tenant, &image.name)),
    ];
    match store.try_transact(writes).await? {
        true => Ok(Ok(())),
        false => Ok(Err(not_found(image_id))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventplane_local::store::EmbeddedStore;
    use std::collections::BTreeSet;

    const NOW: Millis = Millis(1_795_000_000_000);

    fn new(name: &str) -> NewImage {
        NewImage { name: name.to_owned(), architecture: Architecture::Arm64, root_gib: 20 }
    }

    fn store() -> EmbeddedStore {
        EmbeddedStore::in_memory(&[TABLE]).expect("a store")
    }

    fn other() -> Tenant {
        Tenant::parse("acme").expect("a tenant")
    }

    async fn created(store: &EmbeddedStore, name: &str, chance: u64) -> Image {
        let image = create(store, &Tenant::local(), new(name), NOW, chance).await;
        image.expect("written").expect("created")
    }

    #[test]
    fn the_catalogue_is_good_and_no_id_or_name_is_there_twice() {
        let ids: BTreeSet<&str> = catalogue().iter().map(|image| &image.image_id[..]).collect();
        let names: BTreeSet<&str> = catalogue().iter().map(|image| &image.name[..]).collect();
        assert_eq!((ids.len(), names.len()), (catalogue().len(), catalogue().len()));
        for image in catalogue() {
            assert!(is_id(&image.image_id), "{image:?}");
            assert!(ROOT_GIB.contains(&image.root_gib), "{image:?}");
            assert!(image.root_device.starts_with("/dev/"), "{image:?}");
            assert!(!image.is_own, "{image:?}");
        }
        for architecture in [Architecture::X86_64, Architecture::Arm64] {
            let image = default_image(architecture).expect("one of each");
            assert_eq!(image.architecture, architecture);
        }
    }

    #[test]
    fn a_root_volume_is_as_large_as_its_image_says_and_goes_with_its_instance() {
        let root = catalogue()[0].root_volume();
        assert_eq!((root.size_gib, root.device.as_str()), (8, "/dev/xvda"));
        assert!(root.delete_on_termination);
    }

    #[tokio::test]
    async fn an_own_image_is_found_listed_and_deleted_by_its_tenant_alone() {
        let store = store();
        let image = created(&store, "golden", 1).await;
        let found = find(&store, &Tenant::local(), &image.image_id).await.expect("read");
        assert_eq!(found.as_ref(), Some(&image));
        assert_eq!(list(&store, &Tenant::local()).await.expect("read").last(), Some(&image));
        assert_eq!(find(&store, &other(), &image.image_id).await.expect("read"), None);
        assert_eq!(list(&store, &other()).await.expect("read"), catalogue());
        let refused = delete(&store, &other(), &image.image_id).await.expect("read");
        assert_eq!(refused.expect_err("refused").code, "InvalidAMIID.NotFound");

        delete(&store, &Tenant::local(), &image.image_id).await.expect("written").expect("gone");
        assert_eq!(find(&store, &Tenant::local(), &image.image_id).await.expect("read"), None);
        created(&store, "golden", 2).await;
    }

    #[tokio::test]
    async fn a_name_is_given_once() {
        let store = store();
        let first = created(&store, "golden", 1).await;
        let again = create(&store, &Tenant::local(), new("golden"), NOW, 2).await.expect("read");
        let reason = again.expect_err("refused");
        assert_eq!(reason.code, "InvalidAMIName.Duplicate");
        assert!(reason.message.contains(&first.image_id), "{reason}");
        create(&store, &other(), new("golden"), NOW, 3).await.expect("written").expect("created");
    }

    #[tokio::test]
    async fn what_cannot_be_an_image_is_told_what_would_be_right() {
        let store = store();
        for (image, code, right) in [
            (new("ab"), "InvalidAMIName.Malformed", "3 to 128 characters"),
            (new(&"a".repeat(129)), "InvalidAMIName.Malformed", "3 to 128 characters"),
            (new("gold\0en"), "InvalidAMIName.Malformed", "letters, digits, spaces"),
            (new("größe"), "InvalidAMIName.Malformed", "letters, digits, spaces"),
            (new(&catalogue()[0].name), "InvalidAMIName.Duplicate", "of the catalogue"),
            (NewImage { root_gib: 0, ..new("abc") }, "InvalidParameterValue", "1 to 16384 GiB"),
            (NewImage { root_gib: 16_385, ..new("abc") }, "InvalidParameterValue", "1 to 16384"),
        ] {
            let given = format!("{image:?}");
            let refused = create(&store, &Tenant::local(), image, NOW, 1).await.expect("read");
            let reason = refused.expect_err(&given);
            assert_eq!(reason.code, code, "{given}");
            assert!(reason.message.contains(right), "{given}: {reason}");
        }
        assert_eq!(list(&store, &Tenant::local()).await.expect("read").len(), catalogue().len());
    }

    #[tokio::test]
    async fn what_cannot_be_deleted_is_refused() {
        let store = store();
        for (id, code) in [
            (catalogue()[0].image_id.as_str(), "OperationNotPermitted"),
            ("ami-00000000000000000", "InvalidAMIID.NotFound"),
            ("ami-1", "InvalidAMIID.Malformed"),
            ("golden", "InvalidAMIID.Malformed"),
        ] {
            let refused = delete(&store, &Tenant::local(), id).await.expect("read");
            assert_eq!(refused.expect_err(id).code, code, "{id}");
        }
    }

    #[tokio::test]
    async fn more_images_than_a_page_are_listed() {
        let store = store();
        for number in 0..=PAGE_IMAGES as u64 {
            created(&store, &format!("image {number}"), number).await;
        }
        let all = list(&store, &Tenant::local()).await.expect("read");
        assert_eq!(all.len(), catalogue().len() + PAGE_IMAGES + 1);
    }
}
