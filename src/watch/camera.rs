//! A camera of this computer, through the kernel's Video4Linux interface: mapped buffers, in MJPG
//! or YUYV. The crate keeps the calls to the kernel; here is only what is asked of it.

use std::io;
use std::path::Path;
use std::time::Duration;

use moq_v4l::buffer::Type;
use moq_v4l::capability::Flags;
use moq_v4l::format::{Format, FourCC, Quantization};
use moq_v4l::io::mmap::Stream;
use moq_v4l::io::traits::CaptureStream;
use moq_v4l::video::Capture;
use moq_v4l::{Device, capability};

use super::counters::Count;
use super::source::{Payload, Sink, SourceOptions, USUAL_RATE};
use super::yuyv::Yuyv;
use super::{WatchError, reconnect};
use crate::kernel::PlaneColours;
use crate::picture::DecodeLimits;

/// Buffers that the driver fills in turn.
const BUFFERS: u32 = 4;

/// A camera that gives nothing for so long is opened again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for, best first: compressed frames need a twentieth of the bus.
const FORMATS: [&[u8; 4]; 3] = [b"MJPG", b"JPEG", b"YUYV"];

/// Whether the device is a camera that gives one of the formats known here. A device that is not
/// there (yet) may well become one.
pub(super) fn is_known(path: &Path) -> bool {
    Device::with_path(path).map_or(true, |device| choose(&device).is_ok_and(|f| f.is_some()))
}

/// Reads the camera until the user has asked to end.
pub(super) fn read(
    path: &Path,
    options: &SourceOptions,
    sink: &mut Sink,
) -> Result<(), WatchError> {
    reconnect::forever(sink, |sink| {
        read_once(path, options, sink)
            .map_err(|reason| WatchError::Source { source_name: sink.name.clone(), reason })
    })
}

/// The best format that the camera offers.
fn choose(device: &Device) -> io::Result<Option<FourCC>> {
    let offered = device.enum_formats()?;
    let known = FORMATS.map(FourCC::new);
    Ok(known.into_iter().find(|code| offered.iter().any(|offer| offer.fourcc == *code)))
}

fn read_once(path: &Path, options: &SourceOptions, sink: &mut Sink) -> io::Result<()> {
    let device = Device::with_path(path)?;
    check(&device.query_caps()?)?;
    let none = || io::Error::other("the camera gives neither MJPG nor YUYV");
    let code = choose(&device)?.ok_or_else(none)?;
    let [width, height] = options.camera_size;
    let format = device.set_format(&Format::new(width, height, code))?;
    if format.fourcc != code {
        return Err(none());
    }
    check_size(&format, &options.limits)?;
    let mut stream = Stream::with_buffers(&device, Type::VideoCapture, BUFFERS)?;
    stream.set_timeout(PATIENCE);
    let rate = options.input_rate.unwrap_or(USUAL_RATE);
    loop {
        let mut buffer = sink.buffer();
        buffer.clear();
        let (mapped, about) = stream.next()?;
        let used = mapped.len().min(about.bytesused as usize);
        if used == 0 || about.flags.contains(moq_v4l::buffer::Flags::ERROR) {
            sink.counters.add(Count::Damaged, 1);
            if sink.stopped() {
                return Ok(());
            }
            continue;
        }
        // Copied at once: the driver wants its buffer back.
        buffer.extend_from_slice(&mapped[..used]);
        if !sink.put_next(payload(&format, buffer), rate) {
            return Ok(());
        }
    }
}

fn payload(format: &Format, bytes: Vec<u8>) -> Payload {
    if format.fourcc != FourCC::new(b"YUYV") {
        return Payload::Jpeg(bytes);
    }
    Payload::Yuyv(Yuyv {
        width: format.width,
        height: format.height,
        stride: (format.stride as usize).max(2 * format.width as usize),
        colours: match format.quantization {
            Quantization::FullRange => PlaneColours::Full,
            _ => PlaneColours::Television,
        },
        bytes,
    })
}

fn check(about: &capability::Capabilities) -> io::Result<()> {
    if about.capabilities.contains(Flags::VIDEO_CAPTURE | Flags::STREAMING) {
        return Ok(());
    }
    Err(io::Error::other("this device gives no pictures; a camera often has several devices"))
}

fn check_size(format: &Format, limits: &DecodeLimits) -> io::Result<()> {
    let pixels = u64::from(format.width) * u64::from(format.height);
    let longest = format.width.max(format.height);
    if pixels == 0 || pixels > limits.max_pixels || longest > limits.max_side {
        let size = format!("{}×{}", format.width, format.height);
        return Err(io::Error::other(format!("its frames of {size} pixels are not allowed")));
    }
    Ok(())
}
