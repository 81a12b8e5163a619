//! The keeper of instance records on Lambda.

use eventplane_aws::{Error, World, serve};
use eventplane_engine::Function;
use eventplane_instances::{Instances, TABLE};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&[TABLE])?;
    let instances = Instances {
        launch_deadline_ms: world.launch_deadline_ms()?,
        ending_deadline_ms: world.ending_deadline_ms()?,
    };
    serve(&world, Function::new(instances, world.ports.clone())).await
}
