//! The security step on Lambda.

use eventplane_aws::{Error, World, serve};
use eventplane_engine::Function;
use eventplane_security::{Security, TABLE};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&[TABLE])?;
    let security = Security::new(world.master_key()?, world.ports.chance.clone());
    serve(&world, Function::new(security, world.ports.clone())).await
}
