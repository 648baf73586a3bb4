//! Capability names and the order of dropping them.

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use sys::capability::{self, NAMES, Sets};

use crate::log;
use crate::spec::process::Capabilities;

/// Bit of `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u64 = 1 << 21;

/// The five sets as bit masks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Masks {
    bounding: u64,
    effective: u64,
    inheritable: u64,
    permitted: u64,
    ambient: u64,
}

/// Bit mask of a name such as `CAP_KILL`; `None` where we do not know it.
#[must_use]
pub fn bit(name: &str) -> Option<u64> {
    let short = name.strip_prefix("CAP_")?;
    NAMES.iter().position(|known| *known == short).map(|number| 1 << number)
}

/// All names that we know, with `CAP_`.
pub fn names() -> impl Iterator<Item = String> {
    NAMES.iter().map(|name| format!("CAP_{name}"))
}

impl Masks {
    /// Reads the names. Unknown ones are left out with a warning, as the specification asks.
    #[must_use]
    pub fn read(capabilities: &Capabilities) -> Self {
        let mut unknown = Vec::new();
        let mut mask = |names: &[String]| {
            names.iter().fold(0, |mask, name| match bit(name) {
                Some(bit) => mask | bit,
                None => {
                    unknown.push(name.clone());
                    mask
                }
            })
        };
        let masks = Self {
            bounding: mask(&capabilities.bounding),
            effective: mask(&capabilities.effective),
            inheritable: mask(&capabilities.inheritable),
            permitted: mask(&capabilities.permitted),
            ambient: mask(&capabilities.ambient),
        };
        unknown.sort_unstable();
        unknown.dedup();
        if !unknown.is_empty() {
            log::warn(&format!("ignoring unknown capabilities: {}", unknown.join(", ")));
        }
        masks
    }

    /// Leaves out what this process cannot give, with a warning.
    fn within(mut self, own: Sets) -> Result<Self> {
        let wanted = self.bounding | self.permitted | self.effective | self.inheritable | self.ambient;
        let mut missing = wanted & !own.permitted;
        // Only what becomes inheritable has to be in our own bounding set; asking costs a call for each.
        for number in bits(self.inheritable & !own.inheritable & !missing) {
            // EINVAL: the running kernel is older than the capability.
            if !capability::bounding_has(number).unwrap_or(false) {
                missing |= 1 << number;
            }
        }
        if missing != 0 {
            let names: Vec<_> =
                bits(missing).map(|number| format!("CAP_{}", NAMES[number as usize])).collect();
            log::warn(&format!("cannot give capabilities we lack: {}", names.join(", ")));
        }
        for set in [
            &mut self.bounding,
            &mut self.effective,
            &mut self.inheritable,
            &mut self.permitted,
            &mut self.ambient,
        ] {
            *set &= !missing;
        }
        Ok(self)
    }
}

/// First half, while still root: the bounding set, and the permission to keep capabilities over the change of user.
/// Returns what [`finish`] will set.
///
/// # Errors
/// Whatever the kernel says.
pub fn prepare(masks: Masks) -> Result<Masks> {
    let own = capability::get().context("read own capabilities")?;
    let masks = masks.within(own)?;
    for number in 0..64 {
        if masks.bounding & 1 << number == 0 {
            match capability::drop_bounding(number) {
                Ok(()) => {}
                // Beyond the last one of this kernel.
                Err(err) if err.raw_os_error() == Some(Errno::EINVAL as i32) => break,
                Err(err) => return Err(err).context("drop capabilities from the bounding set"),
            }
        }
    }
    nix::sys::prctl::set_keepcaps(true).context("keep capabilities over the change of user")?;
    Ok(masks)
}

/// Second half, as the final user: the other sets, with `extra` on top of the permitted and effective ones for what
/// is still to be done.
///
/// # Errors
/// Whatever the kernel says.
pub fn finish(masks: Masks, extra: u64) -> Result<()> {
    set(masks, extra)?;
    for number in bits(masks.ambient) {
        if let Err(err) = capability::raise_ambient(number) {
            // As runc: an ambient capability that is not also permitted and inheritable is left out.
            log::warn(&format!("can't raise ambient capability CAP_{}: {err}", NAMES[number as usize]));
        }
    }
    Ok(())
}

/// Takes the `extra` of [`finish`] away again.
///
/// # Errors
/// Whatever the kernel says.
pub fn give_up_extra(masks: Masks) -> Result<()> {
    set(masks, 0)
}

/// What failed where the sets could not be changed.
pub const SET: &str = "set capabilities";

/// What [`give_up_extra`] sets.
#[must_use]
pub fn without_extra(masks: Masks) -> Sets {
    with(masks, 0)
}

fn set(masks: Masks, extra: u64) -> Result<()> {
    capability::set(with(masks, extra)).context(SET)
}

fn with(masks: Masks, extra: u64) -> Sets {
    Sets {
        effective: masks.effective | extra,
        permitted: masks.permitted | extra,
        inheritable: masks.inheritable,
    }
}

fn bits(mask: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |number| mask & 1 << number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        assert_eq!(bit("CAP_CHOWN"), Some(1));
        assert_eq!(bit("CAP_SYS_ADMIN"), Some(SYS_ADMIN));
        assert_eq!(bit("CAP_CHECKPOINT_RESTORE"), Some(1 << 40));
        for wrong in ["CHOWN", "cap_chown", "CAP_CAP_CHOWN", "CAP_", ""] {
            assert_eq!(bit(wrong), None, "{wrong}");
        }
    }
}
