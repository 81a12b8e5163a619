//! How an item stands in the file.
//!
//! ```text
//! item      := format(0x01) count attribute*          attributes in the order of their names
//! attribute := length name(UTF-8) kind value
//! kind      := 0x00 number | 0x01 text | 0x02 bytes | 0x03 false | 0x04 true
//! value     := zigzag varint (number) | length bytes (text, bytes) | nothing (false, true)
//! count, length, zigzag := LEB128 varint of at most ten bytes
//! ```
//!
//! Reading never panics, whatever the bytes are: what cannot be an item is [`FaultKind::Corrupt`].

use eventplane_store::{FaultKind, Item, StoreFault, Value};

const FORMAT: u8 = 1;
const NUMBER: u8 = 0;
const TEXT: u8 = 1;
const BYTES: u8 = 2;
const FALSE: u8 = 3;
const TRUE: u8 = 4;

/// The most bytes of a varint of 64 bits.
const VARINT_BYTES_MAX: u32 = 10;

/// At most how many bytes an attribute has besides its name and a text or bytes: its kind, and two
/// varints.
const ATTRIBUTE_BYTES: usize = 1 + 2 * VARINT_BYTES_MAX as usize;

/// Enough bytes for `item`, so that they are written without moving.
fn room(item: &Item) -> usize {
    let attribute = |(name, value): (&String, &Value)| {
        let long = match value {
            Value::S(text) => text.len(),
            Value::B(bytes) => bytes.len(),
            Value::N(_) | Value::Bool(_) => 0,
        };
        ATTRIBUTE_BYTES + name.len() + long
    };
    1 + VARINT_BYTES_MAX as usize + item.iter().map(attribute).sum::<usize>()
}

/// The bytes of `item`.
pub(super) fn encode(item: &Item) -> Vec<u8> {
    let mut out = Vec::with_capacity(room(item));
    out.push(FORMAT);
    write_varint(&mut out, item.len() as u64);
    for (name, value) in item {
        write_bytes(&mut out, name.as_bytes());
        match value {
            Value::N(n) => {
                out.push(NUMBER);
                write_varint(&mut out, zigzag(*n));
            }
            Value::S(text) => {
                out.push(TEXT);
                write_bytes(&mut out, text.as_bytes());
            }
            Value::B(bytes) => {
                out.push(BYTES);
                write_bytes(&mut out, bytes);
            }
            Value::Bool(false) => out.push(FALSE),
            Value::Bool(true) => out.push(TRUE),
        }
    }
    out
}

/// The item that `bytes` are.
///
/// # Errors
/// [`FaultKind::Corrupt`] when they are none.
pub(super) fn decode(bytes: &[u8]) -> Result<Item, StoreFault> {
    let corrupt = || StoreFault::new(FaultKind::Corrupt, "a stored item cannot be read");
    read_item(bytes).ok_or_else(corrupt)
}

fn read_item(bytes: &[u8]) -> Option<Item> {
    let mut rest = bytes;
    if read_byte(&mut rest)? != FORMAT {
        return None;
    }
    let count = read_varint(&mut rest)?;
    let mut item = Item::new();
    for _ in 0..count {
        let name = read_text(&mut rest)?;
        let value = match read_byte(&mut rest)? {
            NUMBER => Value::N(unzigzag(read_varint(&mut rest)?)),
            TEXT => Value::S(read_text(&mut rest)?),
            BYTES => Value::B(read_bytes(&mut rest)?.to_vec()),
            FALSE => Value::Bool(false),
            TRUE => Value::Bool(true),
            _ => return None,
        };
        if item.insert(name, value).is_some() {
            return None;
        }
    }
    rest.is_empty().then_some(item)
}

fn zigzag(n: i64) -> u64 {
    (n.cast_unsigned() << 1) ^ (n >> 63).cast_unsigned()
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

fn write_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn read_byte(rest: &mut &[u8]) -> Option<u8> {
    let (first, behind) = rest.split_first()?;
    *rest = behind;
    Some(*first)
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for place in 0..VARINT_BYTES_MAX {
        let byte = read_byte(rest)?;
        let part = u64::from(byte & 0x7f);
        let shifted = part << (7 * place);
        if shifted >> (7 * place) != part {
            return None;
        }
        n |= shifted;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn read_bytes<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(read_varint(rest)?).ok()?;
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes)
}

fn read_text(rest: &mut &[u8]) -> Option<String> {
    let bytes = read_bytes(rest)?;
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
