//! `demo --real`: three agents of this machine, and instances that are processes.

use crate::problem::Problem;
use crate::show::Screen;

pub(crate) async fn demo(_exit: bool, _screen: &mut Screen) -> Result<(), Problem> {
    Err(Problem::Failed("not yet".to_owned()))
}
