//! Where the binary, the drivers and the results lie: everything inside Cargo's target directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, ensure};

/// Cargo's target directory, which this program or test lies in. A program that was installed
/// elsewhere has a directory for temporary files instead.
pub fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    let target = target.map_or_else(|| std::env::temp_dir().join("raftmq-chaos"), Path::to_owned);
    std::fs::create_dir_all(&target)?;
    Ok(target)
}

/// An empty directory for the data and logs of one run. It stays afterwards, to be looked into.
pub fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let directory = target()?.join("chaos").join(name);
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// The `raftmq` binary: `RAFTMQ_BIN`, the one beside this program, or built here, in release mode if
/// `RAFTMQ_PROFILE=release`.
pub fn binary() -> anyhow::Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| find_binary().map_err(|error| format!("{error:#}")));
    found.as_deref().map_err(|error| anyhow::Error::msg(error.clone()))
}

fn find_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("RAFTMQ_BIN") {
        return Ok(path.into());
    }
    // The chaos binary is installed beside it; tests lie elsewhere.
    let own = std::env::current_exe()?;
    let beside = own.with_file_name("raftmq");
    if own.file_name().is_some_and(|name| name == "chaos") && beside.exists() {
        return Ok(beside);
    }
    let profile = match std::env::var("RAFTMQ_PROFILE").as_deref() {
        Ok("release") => "release",
        _ => "dev",
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--package", "raftmq", "--profile", profile])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", target()?)
        .status()
        .context("could not run cargo")?;
    ensure!(built.success(), "cargo could not build raftmq: {built}");
    let directory = if profile == "dev" { "debug" } else { profile };
    Ok(target()?.join(directory).join("raftmq"))
}
