//! What this computer is, as far as the system says.

use std::fs;

use serde::Serialize;

use crate::kernel::{Machine, MachineError, peak_multiply_adds};

/// The computer that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Host {
    /// The board, where a device tree names it.
    pub board: Option<String>,
    /// The processor, or its cores' designs.
    pub processor: String,
    /// Architecture that the program was built for.
    pub architecture: &'static str,
    /// Operating system that the program was built for.
    pub system: &'static str,
    /// Threads that the system lets run at once.
    pub cores: usize,
    /// Memory in mebibytes.
    pub memory_mib: Option<u64>,
    /// Policy for the clock, such as `performance` or `ondemand`.
    pub governor: Option<String>,
    /// Kernels in use.
    pub kernels: &'static str,
    /// Kernels that this processor could run.
    pub kernels_available: Vec<&'static str>,
    /// 8-bit multiply-adds that a core does with these kernels' instructions, in thousand
    /// millions a second.
    pub peak_gmacs: f64,
}

impl Host {
    /// Looks around.
    ///
    /// # Errors
    /// [`MachineError`] when the kernels asked for do not exist here.
    pub fn look() -> Result<Self, MachineError> {
        let machine = Machine::active()?;
        Ok(Self {
            board: text_of("/proc/device-tree/model"),
            processor: text_of("/proc/cpuinfo")
                .and_then(|text| processor(&text))
                .unwrap_or_else(|| "unknown processor".to_owned()),
            architecture: std::env::consts::ARCH,
            system: std::env::consts::OS,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: text_of("/proc/meminfo")
                .and_then(|text| kibibytes(&text, "MemTotal:"))
                .map(|k| k >> 10),
            governor: text_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            kernels: machine.name(),
            kernels_available: Machine::available().iter().map(|m| m.name()).collect(),
            peak_gmacs: peak_multiply_adds(machine) / 1e9,
        })
    }
}

/// The most memory that this process ever had resident, in kibibytes (Linux only).
pub fn peak_memory_kib() -> Option<u64> {
    text_of("/proc/self/status").and_then(|text| kibibytes(&text, "VmHWM:"))
}

/// Degrees Celsius of the first sensor, which on a board is the processor's.
pub fn temperature() -> Option<f64> {
    let text = text_of("/sys/class/thermal/thermal_zone0/temp")?;
    text.parse::<f64>().ok().map(|thousandths| thousandths / 1000.0)
}

/// A file of the system, without the zero or the line end that closes it.
fn text_of(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\0', '\n']).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The number of a line `name   123 kB`.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The processor that `/proc/cpuinfo` describes: by name, or on Arm by the designs of its cores.
fn processor(text: &str) -> Option<String> {
    let values = |key: &str| {
        let key = key.to_owned();
        text.lines().filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    if let Some(name) = values("model name").find(|name| !name.is_empty()) {
        return Some(name);
    }
    let mut designs: Vec<String> = Vec::new();
    for (implementer, part) in values("CPU implementer").zip(values("CPU part")) {
        let design = design(&implementer, &part);
        if !designs.contains(&design) {
            designs.push(design);
        }
    }
    (!designs.is_empty()).then(|| designs.join(" + "))
}

/// The design of a core by its main identification register (Arm, "MIDR_EL1", part numbers of the
/// technical reference manuals).
fn design(implementer: &str, part: &str) -> String {
    let name = match (implementer, part) {
        ("0x41", "0xd03") => "Cortex-A53",
        ("0x41", "0xd04") => "Cortex-A35",
        ("0x41", "0xd05") => "Cortex-A55",
        ("0x41", "0xd07") => "Cortex-A57",
        ("0x41", "0xd08") => "Cortex-A72",
        ("0x41", "0xd09") => "Cortex-A73",
        ("0x41", "0xd0a") => "Cortex-A75",
        ("0x41", "0xd0b") => "Cortex-A76",
        ("0x41", "0xd0c") => "Neoverse N1",
        ("0x41", "0xd0d") => "Cortex-A77",
        ("0x41", "0xd40") => "Neoverse V1",
        ("0x41", "0xd41") => "Cortex-A78",
        ("0x41", "0xd42") => "Cortex-A78AE",
        ("0x41", "0xd46") => "Cortex-A510",
        ("0x41", "0xd47") => "Cortex-A710",
        ("0x41", "0xd49") => "Neoverse N2",
        ("0x41", "0xd4f") => "Neoverse V2",
        _ => return format!("Arm core {implementer}/{part}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_named() {
        let intel = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nprocessor\t: 1\n";
        assert_eq!(processor(intel).as_deref(), Some("Some CPU @ 3 GHz"));
        let core = |part: &str| format!("CPU implementer\t: 0x41\nCPU part\t: {part}\n\n");
        let pi = core("0xd08").repeat(4);
        assert_eq!(processor(&pi).as_deref(), Some("Cortex-A72"));
        let mixed = core("0xd05").repeat(2) + &core("0xd0b") + "Revision : x\n" + &core("0xfff");
        let expected = "Cortex-A55 + Cortex-A76 + Arm core 0x41/0xfff";
        assert_eq!(processor(&mixed).as_deref(), Some(expected));
        assert_eq!(processor("nothing here"), None);
    }

    #[test]
    fn sizes_are_read() {
        let status = "Name:\tx\nVmHWM:\t   51234 kB\nVmRSS:\t 4 kB\n";
        assert_eq!(kibibytes(status, "VmHWM:"), Some(51_234));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
        assert_eq!(kibibytes("VmHWM: many kB", "VmHWM:"), None);
    }
}
