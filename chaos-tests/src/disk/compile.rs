//! Compiles the C files under `shim/`, once for each content, into Cargo's target directory.
//!
//! C, because both do what Rust does in unsafe code only: stand in front of functions of the C
//! library, and issue ioctls.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;

use super::{owner, tool};
use crate::paths;

const COMPILE_LIMIT: Duration = Duration::from_secs(60);

/// One product.
struct Product {
    name: &'static str,
    source: &'static str,
    flags: &'static [&'static str],
}

const SHIM: Product = Product {
    name: "shim.so",
    source: include_str!("../../shim/shim.c"),
    flags: &["-O2", "-fPIC", "-shared", "-pthread", "-ldl"],
};

const VOLUME: Product = Product {
    name: "volume",
    source: include_str!("../../shim/volume.c"),
    flags: &["-O2", "-pthread"],
};

/// The library for `LD_PRELOAD`.
pub(super) fn shim() -> anyhow::Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    SHIM.built(&BUILT)
}

/// The program that cuts, freezes and thaws file systems.
pub(super) fn volume() -> anyhow::Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    VOLUME.built(&BUILT)
}

impl Product {
    fn built(
        &self,
        once: &'static OnceLock<Result<PathBuf, String>>,
    ) -> anyhow::Result<&'static Path> {
        let built = once.get_or_init(|| self.build().map_err(|error| format!("{error:#}")));
        built.as_deref().map_err(|error| anyhow::Error::msg(error.clone()))
    }

    fn build(&self) -> anyhow::Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        (self.source, self.flags).hash(&mut hasher);
        let directory = paths::target()?.join("chaos-shim");
        std::fs::create_dir_all(&directory)?;
        let product = directory.join(format!("{:016x}-{}", hasher.finish(), self.name));
        if product.exists() {
            return Ok(product);
        }
        // Complete under another name first: several processes may build the same.
        let mark = owner::mark()?;
        let source = directory.join(format!("{}.{mark}.c", self.name));
        let built = directory.join(format!("{}.{mark}.new", self.name));
        std::fs::write(&source, self.source)?;
        let mut arguments: Vec<OsString> = vec!["-o".into(), (&built).into(), (&source).into()];
        arguments.extend(self.flags.iter().map(OsString::from));
        let compiled = tool::run("cc", &arguments, COMPILE_LIMIT);
        std::fs::remove_file(&source)?;
        compiled.context("could not compile the fault shim; a C compiler named cc is needed")?;
        std::fs::rename(&built, &product)?;
        Ok(product)
    }
}
