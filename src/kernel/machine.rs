//! The vector machines the kernels are written for, and the choice between them at run time.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// The environment variable that forces a machine, by [`Machine::name`].
pub const FORCE_VARIABLE: &str = "SEXTANT_KERNELS";

/// A set of vector instructions that the kernels have an implementation for.
///
/// All machines give the same integer accumulators; see [the module](crate::kernel) for the
/// bounds on floating point results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Machine {
    /// Portable Rust, no vector instructions asked for: the reference.
    Scalar,
    /// x86-64 with AVX2 and FMA (2013 on), no 8-bit dot product.
    Avx2,
    /// x86-64 with AVX2, FMA and the 256-bit AVX-VNNI dot product.
    AvxVnni,
    /// x86-64 with AVX-512 (F, BW, VL, DQ) and its VNNI dot product.
    Avx512Vnni,
    /// aarch64 with plain NEON, as on a Cortex-A72.
    Neon,
    /// aarch64 with the `sdot` instruction, as on a Cortex-A76.
    NeonDot,
    /// aarch64 with the 8-bit matrix multiply instructions.
    NeonI8mm,
}

/// Why the machine asked for in `SEXTANT_KERNELS` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// No machine has this name.
    #[error("SEXTANT_KERNELS={name}: no such kernels; this computer can run: {}", names(valid))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What this computer can run.
        valid: Vec<Machine>,
    },
    /// The machine exists, but this processor lacks its instructions.
    #[error(
        "SEXTANT_KERNELS={name}: this processor lacks the instructions; it can run: {}",
        names(valid)
    )]
    Unavailable {
        /// What was asked for.
        name: Machine,
        /// What this computer can run.
        valid: Vec<Machine>,
    },
}

fn names(machines: &[Machine]) -> String {
    machines.iter().map(|machine| machine.name()).collect::<Vec<_>>().join(", ")
}

impl Machine {
    /// Every machine, from the plainest to the strongest of each architecture.
    pub const ALL: [Machine; 7] = [
        Machine::Scalar,
        Machine::Avx2,
        Machine::AvxVnni,
        Machine::Avx512Vnni,
        Machine::Neon,
        Machine::NeonDot,
        Machine::NeonI8mm,
    ];

    /// The name used in `SEXTANT_KERNELS` and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Machine::Scalar => "scalar",
            Machine::Avx2 => "avx2",
            Machine::AvxVnni => "avx-vnni",
            Machine::Avx512Vnni => "avx512-vnni",
            Machine::Neon => "neon",
            Machine::NeonDot => "neon-dot",
            Machine::NeonI8mm => "neon-i8mm",
        }
    }

    /// Whether this processor has the instructions (asked once, then remembered by the
    /// standard library).
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    pub fn is_available(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("popcnt");
        match self {
            Machine::Scalar => true,
            Machine::Avx2 => avx2,
            Machine::AvxVnni => avx2 && is_x86_feature_detected!("avxvnni"),
            Machine::Avx512Vnni => {
                avx2 && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            }
            _ => false,
        }
    }

    /// Whether this processor has the instructions.
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    pub fn is_available(self) -> bool {
        use std::arch::is_aarch64_feature_detected;
        match self {
            Machine::Scalar => true,
            Machine::Neon => is_aarch64_feature_detected!("neon"),
            Machine::NeonDot => is_aarch64_feature_detected!("dotprod"),
            Machine::NeonI8mm => {
                is_aarch64_feature_detected!("dotprod") && is_aarch64_feature_detected!("i8mm")
            }
            _ => false,
        }
    }

    /// Whether this processor has the instructions.
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    pub fn is_available(self) -> bool {
        self == Machine::Scalar
    }

    /// Stops a machine whose instructions this processor lacks from being used.
    ///
    /// # Panics
    /// If it lacks them.
    #[inline]
    pub(crate) fn assert_available(self) {
        assert!(self.is_available(), "this processor cannot run {self} kernels");
    }

    /// The machines this processor can run, plainest first.
    pub fn available() -> Vec<Machine> {
        Self::ALL.into_iter().filter(|machine| machine.is_available()).collect()
    }

    /// The strongest machine this processor can run.
    pub fn detect() -> Machine {
        Self::ALL.into_iter().rfind(|machine| machine.is_available()).unwrap_or(Machine::Scalar)
    }

    /// The machine in use: the one that `SEXTANT_KERNELS` names, or else [`Machine::detect`].
    ///
    /// The variable is read once, on the first call.
    ///
    /// # Errors
    /// The variable names an unknown machine, or one that this processor cannot run.
    pub fn active() -> Result<Machine, MachineError> {
        static ACTIVE: OnceLock<Result<Machine, MachineError>> = OnceLock::new();
        ACTIVE
            .get_or_init(|| match std::env::var_os(FORCE_VARIABLE) {
                Some(name) if !name.is_empty() => name.to_string_lossy().parse(),
                _ => Ok(Machine::detect()),
            })
            .clone()
    }
}

impl FromStr for Machine {
    type Err = MachineError;

    /// Finds a machine by name (case is ignored) that this processor can run.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let wanted = name.trim().to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|machine| machine.name() == wanted);
        match found {
            Some(machine) if machine.is_available() => Ok(machine),
            Some(machine) => {
                Err(MachineError::Unavailable { name: machine, valid: Self::available() })
            }
            None => Err(MachineError::Unknown { name: name.to_owned(), valid: Self::available() }),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
