//! What is pulled, unpacked and built: an image of 9,000 files in three layers, the same in every run, or one of the
//! user's; a registry that has it; a context to build from.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::bench::config;
use crate::check;

/// Nobody else is in this network namespace.
const ADDRESS: &str = "127.0.0.1:5000";
/// For a registry to come up.
const PATIENCE: Duration = Duration::from_secs(60);

const DOCKERFILE: &str = "FROM scratch AS first\nCOPY true /true\nCOPY source /source\nRUN [\"/true\"]\n\
    FROM scratch\nCOPY true /true\nCOPY --from=first /source /source\nCOPY assets /assets\nRUN [\"/true\"]\n\
    CMD [\"/true\"]\n";

/// Everything a contender is given.
#[derive(Debug)]
pub struct Material {
    layout: String,
    archive: PathBuf,
    context: PathBuf,
    /// Where there is a registry to be had.
    pub registry: Option<Registry>,
}

impl Material {
    /// Makes it all under `work`; the image is the one of `layout` where given.
    ///
    /// # Errors
    /// imgtool fails; the registry does not come up.
    pub fn make(imgtool: &Path, layout: Option<&Path>, work: &Path) -> Result<Self> {
        let ours = |args: &[&str]| -> Result<()> {
            let mut command = Command::new(imgtool);
            command.args(args).env("BULKHEAD_STORE", work.join("making"));
            let out = command.env("BULKHEAD_STATE", work.join("making")).stdin(Stdio::null()).output()?;
            let said = String::from_utf8_lossy(&out.stderr);
            ensure!(out.status.success(), "imgtool {}: {}", args.join(" "), said.trim());
            Ok(())
        };
        let layout = if let Some(given) = layout {
            let given = given.to_string_lossy();
            if given.contains(':') { given.into_owned() } else { format!("{given}:latest") }
        } else {
            let (files, made) = (work.join("files"), format!("{}:latest", work.join("layout").display()));
            image(&files)?;
            ours(&["build", "-q", "-t", "made", &files.to_string_lossy()])?;
            ours(&["copy", "-q", "store:made", &format!("oci:{made}")])?;
            fs::remove_dir_all(files)?;
            made
        };
        let archive = work.join("archive.tar");
        ours(&["copy", "-q", &format!("oci:{layout}"), "store:it"])?;
        ours(&["save", "it", "-o", &archive.to_string_lossy()])?;
        let registry = Registry::start(work)?;
        if registry.is_some() {
            ours(&["copy", "-q", &format!("oci:{layout}"), &format!("docker://{ADDRESS}/it:latest")])?;
        }
        fs::remove_dir_all(work.join("making"))?;
        let context = work.join("context");
        build_context(&context)?;
        Ok(Self { layout, archive, context, registry })
    }

    /// What scripts know it by.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LAYOUT", self.layout.clone()),
            ("NAME", format!("{ADDRESS}/it:latest")),
            ("ARCHIVE", self.archive.display().to_string()),
            ("CONTEXT", self.context.display().to_string()),
        ]
    }
}

/// Three directories for three layers: 3,000 files each, 1 to 40 kB, of which a quarter compresses badly.
fn image(dir: &Path) -> Result<()> {
    let mut noise = 1_u64;
    for layer in ["a", "b", "c"] {
        for number in 0..3000_usize {
            let parent = dir.join(layer).join(format!("d{}/e{}", number / 100, number / 10 % 10));
            fs::create_dir_all(&parent)?;
            fs::write(parent.join(format!("f{number}")), content(1024 + number % 40 * 1000, &mut noise))?;
        }
    }
    config::programs(dir)?;
    let dockerfile = "FROM scratch\nCOPY a /a\nCOPY b /b\nCOPY c /c\nCOPY true /true\nCMD [\"/true\"]\n";
    fs::write(dir.join("Dockerfile"), dockerfile).context("write a Dockerfile")
}

fn build_context(dir: &Path) -> Result<()> {
    let mut noise = 2_u64;
    for (name, files, size) in [("source", 40, 4_000), ("assets", 500, 20_000)] {
        fs::create_dir_all(dir.join(name))?;
        for number in 0..files {
            fs::write(dir.join(name).join(format!("f{number}")), content(size, &mut noise))?;
        }
    }
    config::programs(dir)?;
    fs::write(dir.join("Dockerfile"), DOCKERFILE).context("write a Dockerfile")
}

/// Words in no order, and a quarter of noise.
fn content(size: usize, noise: &mut u64) -> Vec<u8> {
    const WORDS: [&[u8]; 8] = [
        b"return ",
        b"struct ",
        b"static const ",
        b"the ",
        b"\n    if (",
        b"int ",
        b"0x7f, ",
        b"== NULL) {\n",
    ];
    let mut out = Vec::with_capacity(size + 16);
    while out.len() < size {
        *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bytes = noise.to_be_bytes();
        if bytes[0] < 32 {
            out.extend_from_slice(&bytes[..6]);
        } else {
            out.extend_from_slice(WORDS[usize::from(bytes[1] >> 5)]);
        }
    }
    out.truncate(size);
    out
}

/// A registry of this run; ends with it.
#[derive(Debug)]
pub struct Registry(Child);

impl Registry {
    /// Starts one on loopback; `None` where none is installed.
    fn start(work: &Path) -> Result<Option<Self>> {
        let found = ["docker-registry", "registry"].iter().find_map(|name| check::find(Path::new(name)).ok());
        let Some(program) = found else { return Ok(None) };
        let config = work.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\nhttp:\n  addr: {ADDRESS}\n  secret: x\n",
            work.join("registry").display()
        );
        fs::write(&config, text).context("write the registry's config")?;
        let mut command = Command::new(&program);
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self(command.spawn().with_context(|| format!("start {}", program.display()))?);
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(ADDRESS).is_err() {
            if Instant::now() > end {
                bail!("{} does not come up", program.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(registry))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
