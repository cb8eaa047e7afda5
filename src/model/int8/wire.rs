//! The little of the protobuf wire format that is needed to lift large int8 payloads out of an
//! ONNX file before the ordinary decoder copies them.
//!
//! An ONNX file is a `ModelProto`; its weights are `TensorProto`s in `graph.initializer`. The
//! decoder in `tract_onnx::pb` copies each payload to the heap. [`detach_payloads`] re-writes the
//! message without the payloads of its large 8-bit tensors and says where in the file they lie,
//! so that they can be read in place.

use std::collections::HashMap;
use std::ops::Range;

/// Payloads shorter than this stay in the message.
const SMALLEST_DETACHED: usize = 256;

/// Field numbers of `onnx.proto`.
mod field {
    pub const MODEL_GRAPH: u64 = 7;
    pub const GRAPH_INITIALIZER: u64 = 5;
    pub const TENSOR_DATA_TYPE: u64 = 2;
    pub const TENSOR_NAME: u64 = 8;
    pub const TENSOR_RAW_DATA: u64 = 9;
}

/// `TensorProto.DataType` of 8-bit tensors.
const EIGHT_BIT_TYPES: [u64; 2] = [2, 3];

/// An ONNX message without its large 8-bit payloads.
#[derive(Debug)]
pub(super) struct Detached {
    /// The message, to be decoded by `prost`.
    pub message: Vec<u8>,
    /// Where the payload of each initialiser that was lifted out lies in the file.
    pub payloads: HashMap<String, Range<usize>>,
}

/// One field of a message: its number, its wire type, where it starts and where its value lies.
#[derive(Debug, Clone)]
struct Field {
    number: u64,
    wire_type: u8,
    whole: Range<usize>,
    value: Range<usize>,
    varint: u64,
}

/// Reads the fields of the message that occupies `range` of `bytes`.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], range: Range<usize>) -> Self {
        Self { bytes, at: range.start, end: range.end }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at..self.end)?.first()?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, length: u64) -> Option<Range<usize>> {
        let start = self.at;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        if end > self.end {
            return None;
        }
        self.at = end;
        Some(start..end)
    }

    /// The next field: `Ok(None)` at the end, `Err` if the message is cut or malformed.
    fn next(&mut self) -> Result<Option<Field>, ()> {
        if self.at == self.end {
            return Ok(None);
        }
        let start = self.at;
        let field = (|| {
            let key = self.varint()?;
            let wire_type = (key & 7) as u8;
            let mut varint = 0;
            let value = match wire_type {
                0 => {
                    let at = self.at;
                    varint = self.varint()?;
                    at..self.at
                }
                1 => self.skip(8)?,
                2 => {
                    let length = self.varint()?;
                    self.skip(length)?
                }
                5 => self.skip(4)?,
                _ => return None,
            };
            Some(Field { number: key >> 3, wire_type, whole: start..self.at, value, varint })
        })();
        field.map(Some).ok_or(())
    }
}

/// Lifts the large 8-bit payloads out of an ONNX file. `None` if the file is not a well-formed
/// protobuf message (the decoder then says what is wrong with it).
pub(super) fn detach_payloads(file: &[u8]) -> Option<Detached> {
    let mut payloads = HashMap::new();
    let message = rewrite(file, 0..file.len(), field::MODEL_GRAPH, &mut |graph| {
        rewrite(file, graph, field::GRAPH_INITIALIZER, &mut |tensor| {
            detach_tensor(file, tensor, &mut payloads)
        })
    })?;
    Some(Detached { message, payloads })
}

/// Copies a message, replacing each sub-message of one field number by what `inner` makes of it.
fn rewrite(
    file: &[u8],
    range: Range<usize>,
    number: u64,
    inner: &mut dyn FnMut(Range<usize>) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let mut fields = Fields::new(file, range);
    let mut out = Vec::new();
    while let Some(found) = fields.next().ok()? {
        if found.number == number && found.wire_type == 2 {
            let content = inner(found.value)?;
            put_varint(&mut out, (number << 3) | 2);
            put_varint(&mut out, content.len() as u64);
            out.extend_from_slice(&content);
        } else {
            out.extend_from_slice(&file[found.whole]);
        }
    }
    Some(out)
}

/// A tensor without its payload, if that is large and 8-bit; otherwise a copy.
fn detach_tensor(
    file: &[u8],
    range: Range<usize>,
    payloads: &mut HashMap<String, Range<usize>>,
) -> Option<Vec<u8>> {
    let (mut name, mut data_type, mut raw) = (None, 0, None);
    let mut fields = Fields::new(file, range.clone());
    while let Some(found) = fields.next().ok()? {
        match (found.number, found.wire_type) {
            (field::TENSOR_DATA_TYPE, 0) => data_type = found.varint,
            (field::TENSOR_NAME, 2) => name = std::str::from_utf8(&file[found.value]).ok(),
            (field::TENSOR_RAW_DATA, 2) => raw = Some(found),
            _ => {}
        }
    }
    match (name, raw) {
        (Some(name), Some(raw))
            if EIGHT_BIT_TYPES.contains(&data_type) && raw.value.len() >= SMALLEST_DETACHED =>
        {
            let mut out = file[range.start..raw.whole.start].to_vec();
            out.extend_from_slice(&file[raw.whole.end..range.end]);
            payloads.insert(name.to_owned(), raw.value);
            Some(out)
        }
        _ => Some(file[range].to_vec()),
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};
    use tract_onnx::prelude::*;

    fn encode_tensor(name: &str, data_type: u8, raw: &[u8]) -> Vec<u8> {
        let mut out = vec![0x10, data_type];
        put_varint(&mut out, (field::TENSOR_NAME << 3) | 2);
        put_varint(&mut out, name.len() as u64);
        out.extend_from_slice(name.as_bytes());
        put_varint(&mut out, (field::TENSOR_RAW_DATA << 3) | 2);
        put_varint(&mut out, raw.len() as u64);
        out.extend_from_slice(raw);
        out
    }

    fn wrap(number: u64, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, (number << 3) | 2);
        put_varint(&mut out, content.len() as u64);
        out.extend_from_slice(content);
        out
    }

    fn file() -> Vec<u8> {
        let mut graph = wrap(field::GRAPH_INITIALIZER, &encode_tensor("big", 3, &[7; 1000]));
        graph.extend(wrap(field::GRAPH_INITIALIZER, &encode_tensor("small", 3, &[8; 10])));
        graph.extend(wrap(field::GRAPH_INITIALIZER, &encode_tensor("float", 1, &[9; 1000])));
        wrap(field::MODEL_GRAPH, &graph)
    }

    fn decode(message: &[u8]) -> ModelProto {
        tract_onnx::onnx().proto_model_for_read(&mut &*message).unwrap()
    }

    #[test]
    fn only_large_eight_bit_payloads_are_lifted_out() {
        let file = file();
        let detached = detach_payloads(&file).unwrap();
        assert_eq!(detached.payloads.len(), 1);
        assert!(file[detached.payloads["big"].clone()].iter().all(|b| *b == 7));
        let (before, after) = (decode(&file), decode(&detached.message));
        let tensors = |m: &ModelProto| -> Vec<TensorProto> {
            m.graph.iter().flat_map(|g: &GraphProto| g.initializer.clone()).collect()
        };
        let (before, after) = (tensors(&before), tensors(&after));
        assert_eq!(before[0].name, after[0].name);
        assert!(after[0].raw_data.is_empty());
        assert_eq!(before[1..], after[1..]);
    }

    #[test]
    fn every_truncation_is_refused_or_equal_to_a_decodable_prefix() {
        let file = file();
        for length in 0..file.len() {
            if let Some(detached) = detach_payloads(&file[..length]) {
                assert!(detached.payloads.values().all(|r| r.end <= length));
            }
        }
    }
}
