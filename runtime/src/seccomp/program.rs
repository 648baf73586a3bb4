//! A compiled filter: installing it, and keeping it for the processes that `exec` starts later.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use anyhow::{Context as _, Result};
use nix::libc;
use sys::seccomp::Instruction;

use super::abi;
use super::notify::Listener;
use super::verdict::verdict;

/// First bytes of the file: what it is, and the version of its form.
const MAGIC: [u8; 8] = *b"seccomp1";
/// The kernel's `BPF_MAXINSNS`.
pub(super) const LONGEST: usize = 4096;

/// A filter ready to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What the kernel gets.
    pub instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_…`.
    pub flags: u32,
    /// Who is to get the descriptor that [`Program::install`] returns.
    pub listener: Option<Listener>,
}

impl Program {
    /// Installs the filter on the calling thread. Without `no_new_privs` the thread needs `CAP_SYS_ADMIN`.
    /// Returns the notification descriptor exactly if there is a `listener`.
    ///
    /// # Errors
    /// Whatever `seccomp(2)` says.
    pub fn install(&self) -> io::Result<Option<OwnedFd>> {
        sys::seccomp::install(&self.instructions, self.flags)
    }

    /// Whether it lets a system call of this architecture through whatever its arguments are, without a word to anybody.
    #[must_use]
    pub fn always_allows(&self, call: libc::c_long) -> bool {
        const ALLOW: u32 = 0x7fff_0000;
        let says = |number| verdict(&self.instructions, (abi::NATIVE as u32, number), None);
        u32::try_from(call).is_ok_and(|number| says(number) == Some(ALLOW))
    }

    /// The program as a file: magic, flags, the lengths of the listener's path and metadata, both, the instructions;
    /// numbers in this machine's order, for it leaves neither the machine nor its boot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (path, metadata) = match &self.listener {
            Some(listener) => (listener.path.as_os_str().as_bytes(), listener.metadata.as_bytes()),
            None => (&b""[..], &b""[..]),
        };
        let mut bytes = Vec::with_capacity(64 + path.len() + metadata.len() + 8 * self.instructions.len());
        bytes.extend(MAGIC);
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(path.len().to_ne_bytes());
        bytes.extend(metadata.len().to_ne_bytes());
        bytes.extend(path);
        bytes.extend(metadata);
        for Instruction { code, jt, jf, k } in &self.instructions {
            let [c0, c1] = code.to_ne_bytes();
            let [k0, k1, k2, k3] = k.to_ne_bytes();
            bytes.extend([c0, c1, *jt, *jf, k0, k1, k2, k3]);
        }
        bytes
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// It is not that.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = "the seccomp filter kept for exec is damaged";
        let rest = bytes.strip_prefix(&MAGIC).context(damaged)?;
        let (flags, rest) = rest.split_first_chunk().context(damaged)?;
        let (path, rest) = rest.split_first_chunk().context(damaged)?;
        let (metadata, rest) = rest.split_first_chunk().context(damaged)?;
        let (path, rest) = rest.split_at_checked(usize::from_ne_bytes(*path)).context(damaged)?;
        let (metadata, rest) = rest.split_at_checked(usize::from_ne_bytes(*metadata)).context(damaged)?;
        let instructions = instructions(rest).context(damaged)?;
        let listener = (!path.is_empty()).then(|| Listener {
            path: std::ffi::OsString::from_vec(path.to_vec()).into(),
            metadata: String::from_utf8_lossy(metadata).into_owned(),
        });
        Ok(Self { instructions, flags: u32::from_ne_bytes(*flags), listener })
    }
}

/// Instructions as the kernel has them in memory; `None` where these are none, more than it takes, or torn.
pub(super) fn instructions(bytes: &[u8]) -> Option<Vec<Instruction>> {
    let (code, torn) = bytes.as_chunks::<8>();
    let instruction = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([c0, c1]),
        jt,
        jf,
        k: u32::from_ne_bytes([k0, k1, k2, k3]),
    };
    let right = torn.is_empty() && (1..=LONGEST).contains(&code.len());
    right.then(|| code.iter().map(instruction).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(listener: Option<Listener>) -> Program {
        let instructions = vec![Instruction { code: 6, jt: 1, jf: 2, k: 0x7fff_0001 }; 3];
        Program { instructions, flags: 12, listener }
    }

    #[test]
    fn comes_back_as_it_went() {
        let listener = Listener { path: "/run/agent.sock".into(), metadata: "a: b".into() };
        for one in [program(None), program(Some(listener))] {
            assert_eq!(Program::decode(&one.encode()).unwrap(), one);
        }
    }

    #[test]
    fn a_torn_file_is_no_filter() {
        let whole = program(None).encode();
        for length in 0..whole.len() - 16 {
            assert!(Program::decode(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(Program::decode(&[&whole[..], b"x"].concat()).is_err());
    }
}
