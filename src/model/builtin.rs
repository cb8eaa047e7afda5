//! The package compiled into the binary, and where packages of a name are looked for.

use std::path::{Path, PathBuf};

use super::package::{Package, PackageError};

/// Name of the default package.
pub const DEFAULT_MODEL: &str = "sextant-lite";

#[cfg(feature = "builtin-model")]
static FILES: &[(&str, &[u8])] = &[
    ("model.toml", include_bytes!("../../models/sextant-lite/model.toml")),
    ("image.onnx", include_bytes!("../../models/sextant-lite/image.onnx")),
    #[cfg(feature = "text")]
    ("text.onnx", include_bytes!("../../models/sextant-lite/text.onnx")),
    #[cfg(feature = "text")]
    ("tokenizer.json", include_bytes!("../../models/sextant-lite/tokenizer.json")),
];

#[cfg(not(feature = "builtin-model"))]
static FILES: &[(&str, &[u8])] = &[];

/// Finds the package that `--model` means: a folder with a `model.toml`, the built-in package, or
/// a package of that name in one of [`model_folders`].
///
/// # Errors
/// [`PackageError::NotFound`] with the known names, or what is wrong with the package found.
pub fn find(name: &str) -> Result<Package, PackageError> {
    let folder = Path::new(name);
    if folder.join("model.toml").exists() {
        return Package::open(folder);
    }
    if name == DEFAULT_MODEL && !FILES.is_empty() {
        return Package::builtin(FILES);
    }
    let plain_name = folder.file_name().is_some_and(|n| n == folder.as_os_str());
    let mut named = model_folders().into_iter().map(|f| f.join(name));
    match named.find(|f| plain_name && f.join("model.toml").exists()) {
        Some(found) => Package::open(&found),
        None => {
            let known: Vec<_> = list().into_iter().map(|(name, _)| name).collect();
            let known =
                if known.is_empty() { "the known names (none)".into() } else { known.join(", ") };
            Err(PackageError::NotFound { name: name.to_owned(), known })
        }
    }
}

/// Folders in which packages are looked for by name: `$SEXTANT_MODELS`, then `sextant/models`
/// below the user's data folder.
pub fn model_folders() -> Vec<PathBuf> {
    let own = std::env::var_os("SEXTANT_MODELS").map(PathBuf::from);
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")))
        .map(|data| data.join("sextant/models"));
    own.into_iter().chain(data).collect()
}

/// Every package that [`find`] would find by name, with what opening it says.
pub fn list() -> Vec<(String, Result<Package, PackageError>)> {
    let mut found = Vec::new();
    if !FILES.is_empty() {
        found.push((DEFAULT_MODEL.to_owned(), Package::builtin(FILES)));
    }
    for folder in model_folders() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let mut folders: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        folders.sort();
        for folder in folders.into_iter().filter(|f| f.join("model.toml").exists()) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, Package::open(&folder)));
        }
    }
    found
}
