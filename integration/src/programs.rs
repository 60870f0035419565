use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The directory that holds the programs `coord`, `broker` and `admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs(PathBuf);

const NAMES: [&str; 3] = ["coord", "broker", "admin"];

impl Programs {
    /// The programs in `dir`.
    ///
    /// # Errors
    /// When one of the three is missing there.
    pub fn in_dir(dir: &Path) -> Result<Programs> {
        for name in NAMES {
            if !dir.join(name).is_file() {
                bail!(
                    "{} is missing: build it with cargo build -p {name}",
                    dir.join(name).display()
                );
            }
        }
        Ok(Programs(dir.to_owned()))
    }

    /// The programs that stand beside this one.
    ///
    /// # Errors
    /// As [`in_dir`](Self::in_dir).
    pub fn beside_this() -> Result<Programs> {
        let this = env::current_exe().context("cannot tell where this program is")?;
        Programs::in_dir(this.parent().context("this program is in no directory")?)
    }

    /// The programs under test: those of the directory that `GREGOR_BIN` names, or built now, as this test was.
    ///
    /// # Errors
    /// When they cannot be built.
    pub fn under_test() -> Result<Programs> {
        static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            match env::var_os("GREGOR_BIN") {
                Some(dir) => Programs::in_dir(Path::new(&dir)),
                None => build(),
            }
            .map_err(|e| format!("{e:#}"))
        });
        built.clone().map_err(anyhow::Error::msg)
    }

    /// The path of one program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn build() -> Result<Programs> {
    // <target>/<profile>/deps/<this test>
    let this = env::current_exe().context("cannot tell where this test is")?;
    let dir = this
        .ancestors()
        .nth(2)
        .context("this test is in no target directory")?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet"]);
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    for name in NAMES {
        cargo.args(["--package", name]);
    }
    if !cargo.status().context("cannot run cargo")?.success() {
        bail!("the programs under test do not build");
    }
    Programs::in_dir(dir)
}
