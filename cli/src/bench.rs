//! stub
use crate::exit::Failure;
use clap::Args;
#[derive(Args)]
pub struct BenchArgs {}
pub async fn run(_: BenchArgs) -> Result<(), Failure> {
    Ok(())
}
