//! The hostile component, and changes to its bytes.

use crate::common::host::guest;

/// What `describe` looks at, before the act.
const MARKER: &[u8] = b"hostile-guest-describe:";
/// Bytes of the act.
const ACT: usize = 41;

/// The component as it was built.
pub(crate) fn honest() -> Vec<u8> {
    std::fs::read(guest("hostile_guest")).unwrap()
}

/// The component with an act in `describe`.
pub(crate) fn describing(act: &str) -> Vec<u8> {
    let mut bytes = honest();
    let found: Vec<usize> = (0..bytes.len() - MARKER.len()).filter(|at| bytes[*at..].starts_with(MARKER)).collect();
    let [at] = found[..] else { panic!("the marker stands {} times in the component", found.len()) };
    let text = format!("{act:.<ACT$}");
    assert_eq!(text.len(), ACT, "{act} is too long");
    bytes[at + MARKER.len()..][..ACT].copy_from_slice(text.as_bytes());
    bytes
}

/// The component with one more core module, from its text, which is instantiated before all else.
pub(crate) fn with_module(text: &str) -> Vec<u8> {
    let mut bytes = honest();
    let module = wat::parse_str(text).unwrap();
    let index = sections(&bytes).into_iter().filter(|id| *id == CORE_MODULE).count();
    section(&mut bytes, CORE_MODULE, &module);
    // One instance: `instantiate` (0) that module, with no arguments.
    let mut instance = vec![1, 0];
    leb(&mut instance, index);
    instance.push(0);
    section(&mut bytes, CORE_INSTANCE, &instance);
    bytes
}

/// The component with a custom section of this many bytes.
pub(crate) fn padded(size: usize) -> Vec<u8> {
    let mut bytes = honest();
    let mut content = vec![1, b'x'];
    content.resize(size.max(2), 0);
    section(&mut bytes, 0, &content);
    bytes
}

/// Id of a section that holds a core module.
const CORE_MODULE: u8 = 1;
/// Id of a section that holds instances of core modules.
const CORE_INSTANCE: u8 = 2;

/// The ids of the sections of a component.
fn sections(bytes: &[u8]) -> Vec<u8> {
    let mut at = 8;
    let mut found = Vec::new();
    while at < bytes.len() {
        found.push(bytes[at]);
        at += 1;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = bytes[at];
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at += length;
    }
    found
}

fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    bytes.push(id);
    leb(bytes, content.len());
    bytes.extend_from_slice(content);
}

fn leb(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}
