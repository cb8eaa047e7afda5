//! Why a computer cannot be measured.

use crate::encode::EncodeError;
use crate::index::IndexError;
use crate::kernel::MachineError;
use crate::model::PackageError;
use crate::picture::DecodeError;

/// Why a computer cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The kernels asked for do not exist here.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The model package does not fit.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A tower cannot be built or run.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The picture given cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The index to search cannot be made.
    #[error("an index to search cannot be made in the temporary folder: {0}")]
    Index(#[from] IndexError),
    /// There is no room for the index to search.
    #[error("{folder}: no index to search can be made here: {reason}")]
    Folder {
        /// The folder.
        folder: String,
        /// What the operating system says.
        reason: std::io::Error,
    },
    /// There is nothing to search.
    #[error("an index of no rows cannot be measured: ask for at least one")]
    NoRows,
}
