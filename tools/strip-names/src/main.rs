//! Takes the section `component-name` out of a WebAssembly component.
//!
//! Why: the linker strips the module inside, but always writes names of the component's own parts for debuggers: nine
//! kilobytes that every host reads and hashes at each load.
//! Not guaranteed: anything about what is in the other sections; they are copied as they are.

use anyhow::{Context, bail, ensure};

/// First bytes of a component; a module has other ones behind the first four.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
/// What is taken out.
const NAMES: &[u8] = b"component-name";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [from, to] = arguments.as_slice() else { bail!("usage: strip-names COMPONENT STRIPPED") };
    let bytes = std::fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
    let stripped = strip(&bytes).with_context(|| from.display().to_string())?;
    std::fs::write(to, &stripped).with_context(|| format!("{} cannot be written", to.display()))?;
    println!("{}: {} bytes", to.display(), stripped.len());
    Ok(())
}

/// The component without the section.
fn strip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut rest = bytes.strip_prefix(COMPONENT.as_slice()).context("it is no component")?;
    let mut stripped = COMPONENT.to_vec();
    while let Some((id, behind)) = rest.split_first() {
        let (size, content) = number(behind)?;
        let (content, next) = content.split_at_checked(size).context("it is cut short")?;
        let is_names = *id == 0 && {
            let (length, name) = number(content)?;
            name.get(..length) == Some(NAMES)
        };
        if !is_names {
            let section = rest.len().checked_sub(next.len()).and_then(|length| rest.get(..length));
            stripped.extend_from_slice(section.context("it is cut short")?);
        }
        rest = next;
    }
    Ok(stripped)
}

/// A number in LEB128, and what is behind it.
fn number(bytes: &[u8]) -> anyhow::Result<(usize, &[u8])> {
    let mut number = 0_usize;
    for (at, byte) in bytes.iter().enumerate() {
        ensure!(at < 5, "a number in it is too long");
        number |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((number, bytes.get(at + 1..).unwrap_or_default()));
        }
    }
    bail!("it is cut short")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// A section.
    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        // A longer form of the number is as good.
        let size = u8::try_from(content.len()).unwrap();
        [&[id, size | 0x80, 0], content].concat()
    }

    #[test]
    fn only_the_names_of_the_component_go() {
        let names = section(0, b"\x0ecomponent-namexyz");
        let others = [section(0, b"\x09producers"), section(1, b"\x0ecomponent-name"), section(7, b"")].concat();
        let component = [COMPONENT.as_slice(), &names, &others, &names].concat();
        assert_eq!(strip(&component).unwrap(), [COMPONENT.as_slice(), &others].concat());
        assert_eq!(strip(&COMPONENT).unwrap(), COMPONENT);
    }

    #[test]
    fn what_is_no_component_or_cut_short_is_refused() {
        let whole = [COMPONENT.as_slice(), &section(0, b"\x0ecomponent-name"), &section(1, b"abc")].concat();
        for length in (0..whole.len()).filter(|length| ![8, 8 + 18].contains(length)) {
            assert!(strip(whole.get(..length).unwrap()).is_err(), "{length}");
        }
        assert!(strip(b"\0asm\x01\0\0\0").is_err(), "a module");
        assert!(strip(&[COMPONENT.as_slice(), &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat()).is_err());
    }
}
