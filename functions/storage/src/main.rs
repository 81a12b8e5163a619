//! The storage step on Lambda.

use eventplane_aws::{Error, World, serve};
use eventplane_engine::Function;
use eventplane_storage::{Storage, TABLE};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&[TABLE])?;
    let storage = Storage::new(world.master_key()?, world.ports.chance.clone());
    serve(&world, Function::new(storage, world.ports.clone())).await
}
