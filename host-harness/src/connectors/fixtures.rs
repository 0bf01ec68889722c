//! Connectors made in memory for tests, from the text in fixture.wat.
//!
//! What: what they return is laid out here byte by byte as the canonical ABI wants it and placed in the module's data;
//! what `poll` does is a piece of WebAssembly text. So a test needs no toolchain and can be as evil as it likes.
//! Not guaranteed: that they resemble a real connector.

use crate::contract::types;

/// Where the data begins in the module's memory; below is room for results that code writes.
const BASE: u32 = 1024;

/// Bytes of memory that are laid out, and addresses within them.
#[derive(Default)]
struct Data {
    bytes: Vec<u8>,
}

/// A record being laid out.
#[derive(Default)]
struct Record(Vec<u8>);

impl Data {
    /// Places bytes at an address that is a multiple of eight.
    fn place(&mut self, bytes: &[u8]) -> u32 {
        while !self.bytes.len().is_multiple_of(8) {
            self.bytes.push(0);
        }
        let address = BASE + u32::try_from(self.bytes.len()).unwrap();
        self.bytes.extend_from_slice(bytes);
        address
    }

    /// Places the elements of a list.
    fn list(&mut self, elements: &[Record]) -> (u32, u32) {
        let bytes: Vec<u8> = elements.iter().flat_map(|element| element.0.iter().copied()).collect();
        (self.place(&bytes), u32::try_from(elements.len()).unwrap())
    }
}

impl Record {
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn align(mut self, to: usize) -> Self {
        while !self.0.len().is_multiple_of(to) {
            self.0.push(0);
        }
        self
    }

    fn u16(self, value: u16) -> Self {
        let mut this = self.align(2);
        this.0.extend_from_slice(&value.to_le_bytes());
        this
    }

    fn u32(self, value: u32) -> Self {
        let mut this = self.align(4);
        this.0.extend_from_slice(&value.to_le_bytes());
        this
    }

    fn u64(self, value: u64) -> Self {
        let mut this = self.align(8);
        this.0.extend_from_slice(&value.to_le_bytes());
        this
    }

    fn pair(self, (address, count): (u32, u32)) -> Self {
        self.u32(address).u32(count)
    }

    fn text(self, data: &mut Data, text: &str) -> Self {
        let address = data.place(text.as_bytes());
        self.pair((address, u32::try_from(text.len()).unwrap()))
    }

    /// Fills up to a size.
    fn size(mut self, size: usize) -> Self {
        assert!(self.0.len() <= size);
        self.0.resize(size, 0);
        self
    }
}

/// What every fixture says of itself.
pub(crate) fn descriptor() -> types::Descriptor {
    let field = |key: &str, kind| types::SettingField {
        key: key.into(),
        label: key.into(),
        help: String::new(),
        kind,
        required: key == "api_key",
        default: None,
    };
    types::Descriptor {
        name: "signal-client.fixture".into(),
        display_name: "Fixture".into(),
        category: "Test".into(),
        version: "1.0.0".into(),
        vendor_docs: "https://docs.example.com/".into(),
        auth_method: "API Key".into(),
        default_poll_minutes: 5,
        minimum_poll_minutes: 1,
        multi_instance: true,
        streams: vec![types::DataStream {
            name: "records".into(),
            noun: "records".into(),
            description: "Records.".into(),
            announced: true,
        }],
        settings: vec![field("api_key", types::SettingKind::Secret), field("region", types::SettingKind::Text(10))],
        credentials: vec![types::Credential { setting: "api_key".into(), header: "x-api-key".into() }],
    }
}

/// The plan of every fixture.
pub(crate) fn plan() -> types::Plan {
    types::Plan {
        origin: types::Origin { scheme: types::Scheme::Https, host: "api.example.com".into(), port: 443 },
        rules: vec![types::RequestRule { method: "GET".into(), path_prefix: "/v1/".into() }],
    }
}

/// The id of the one artifact in the batch of [`GOOD`].
pub(crate) const ARTIFACT_ID: &str = "0d9e7a7a-53b6-1f0b-8a8e-1fb1b6b8ab1d";

/// A `poll` that returns one artifact.
pub(crate) const GOOD: &str = "(i32.const {batch})";

/// A component to be made.
#[derive(Clone)]
pub(crate) struct Fixture {
    /// What it says of itself; without defaults, and of settings only text and secret.
    pub(crate) descriptor: types::Descriptor,
    /// What `configure` plans.
    pub(crate) plan: types::Plan,
    /// What `poll` does, see [`component_polling`].
    pub(crate) poll: &'static str,
    /// What `describe` does before it returns.
    pub(crate) describe: &'static str,
    /// What `configure` does before it returns. `{refused}` is the address of a refusal of the setting `region`.
    pub(crate) configure: &'static str,
    /// What `check` does before it returns.
    pub(crate) check: &'static str,
}

impl Fixture {
    /// A sound component of this version.
    pub(crate) fn version(version: &str) -> Self {
        let descriptor = types::Descriptor { version: version.to_owned(), ..descriptor() };
        Self { descriptor, plan: plan(), poll: GOOD, describe: "", configure: "", check: "" }
    }

    /// The component.
    pub(crate) fn build(&self) -> Vec<u8> {
        build(&self.descriptor, &self.plan, self.poll, [self.describe, self.configure, self.check])
    }
}

/// A sound component whose `poll` returns one artifact.
pub(crate) fn component() -> Vec<u8> {
    component_polling(GOOD)
}

/// A component whose `poll` does as told, in WebAssembly text. It may use what fixture.wat imports and defines, and
/// these words: `{batch}` and `{bad}`, the addresses of a good batch and of one with a broken artifact; `{failure}`;
/// `{text}`, of 64 bytes; and `{host}`, `{other-host}`, `{path}`, `{other-path}` and `{key-header}`, each an address
/// and a length.
pub(crate) fn component_polling(poll: &str) -> Vec<u8> {
    component_with(&descriptor(), poll, "")
}

/// A component with this descriptor (without defaults, and of settings only text and secret), this `poll`, and code
/// that `describe` runs first.
pub(crate) fn component_with(descriptor: &types::Descriptor, poll: &str, describe: &str) -> Vec<u8> {
    build(descriptor, &plan(), poll, [describe, "", ""])
}

/// See [`Fixture`]. `first` is what `describe`, `configure` and `check` do before they return.
fn build(descriptor: &types::Descriptor, plan: &types::Plan, poll: &str, first: [&str; 3]) -> Vec<u8> {
    let [describe, configure, check] = first;
    let mut data = Data::default();
    let failure = lay_failure(&mut data);
    let addresses = [
        ("{descriptor}", lay_descriptor(&mut data, descriptor)),
        ("{plan}", lay_plan(&mut data, plan)),
        ("{refused}", lay_refusal(&mut data)),
        ("{check}", lay_check(&mut data)),
        ("{batch}", lay_batch(&mut data, &format!(r#"{{"id":"{ARTIFACT_ID}"}}"#))),
        ("{bad}", lay_batch(&mut data, r#"{"id":"another"}"#)),
        ("{failure}", failure),
        // In the payload of the result: the reason, and the value of the status' option.
        ("{failure-reason}", failure + 8),
        ("{failure-status}", failure + 8 + 22),
        ("{text}", data.place(&[b'x'; 64])),
        ("{base}", BASE),
    ];
    let texts = [
        ("{host}", "api.example.com"),
        ("{other-host}", "other.example.com"),
        ("{path}", "/v1/records?x=1"),
        ("{other-path}", "/v2/records"),
        ("{key-header}", "x-api-key"),
    ]
    .map(|(name, text)| (name, format!("(i32.const {}) (i32.const {})", data.place(text.as_bytes()), text.len())));
    let bytes: String = data.bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let mut text = include_str!("fixture.wat")
        .replace("{poll}", poll)
        .replace("{describe}", describe)
        .replace("{configure}", configure)
        .replace("{checking}", check);
    for (name, address) in addresses {
        text = text.replace(name, &address.to_string());
    }
    for (name, pair) in texts {
        text = text.replace(name, &pair);
    }
    wat::parse_str(text.replace("{data}", &bytes)).unwrap()
}

fn lay_descriptor(data: &mut Data, descriptor: &types::Descriptor) -> u32 {
    let streams: Vec<Record> = descriptor
        .streams
        .iter()
        .map(|stream| {
            Record::default()
                .text(data, &stream.name)
                .text(data, &stream.noun)
                .text(data, &stream.description)
                .u8(stream.announced.into())
                .size(28)
        })
        .collect();
    let settings: Vec<Record> = descriptor
        .settings
        .iter()
        .map(|field| {
            let record = Record::default().text(data, &field.key).text(data, &field.label).text(data, &field.help);
            let record = match field.kind {
                types::SettingKind::Text(most) => record.u8(0).align(8).u32(most).size(48),
                types::SettingKind::Secret => record.u8(4).size(48),
                _ => panic!("fixtures have texts and secrets only"),
            };
            assert!(field.default.is_none(), "fixtures have no defaults");
            record.u8(field.required.into()).size(80)
        })
        .collect();
    let credentials: Vec<Record> = descriptor
        .credentials
        .iter()
        .map(|credential| Record::default().text(data, &credential.setting).text(data, &credential.header))
        .collect();
    let record = Record::default()
        .text(data, &descriptor.name)
        .text(data, &descriptor.display_name)
        .text(data, &descriptor.category)
        .text(data, &descriptor.version)
        .text(data, &descriptor.vendor_docs)
        .text(data, &descriptor.auth_method)
        .u32(descriptor.default_poll_minutes)
        .u32(descriptor.minimum_poll_minutes)
        .u8(descriptor.multi_instance.into())
        .align(4)
        .pair(data.list(&streams))
        .pair(data.list(&settings))
        .pair(data.list(&credentials));
    data.place(&record.0)
}

fn lay_plan(data: &mut Data, plan: &types::Plan) -> u32 {
    let rules: Vec<Record> = plan
        .rules
        .iter()
        .map(|rule| Record::default().text(data, &rule.method).text(data, &rule.path_prefix))
        .collect();
    // result: ok; then scheme: https.
    let record = Record::default()
        .u8(0)
        .align(4)
        .u8(0)
        .align(4)
        .text(data, &plan.origin.host)
        .u16(plan.origin.port)
        .align(4)
        .pair(data.list(&rules));
    data.place(&record.0)
}

fn lay_refusal(data: &mut Data) -> u32 {
    let error = Record::default().text(data, "region").text(data, "no such region");
    let record = Record::default().u8(1).align(4).pair(data.list(&[error])).size(28);
    data.place(&record.0)
}

fn lay_check(data: &mut Data) -> u32 {
    let record = Record::default().u8(0).align(8).text(data, "Authorized\n").pair((BASE, 0)).size(64);
    data.place(&record.0)
}

fn lay_batch(data: &mut Data, json: &str) -> u32 {
    let artifact = Record::default().text(data, ARTIFACT_ID).text(data, "records").text(data, json);
    let report = Record::default().text(data, "records").u64(1).u8(0).size(80);
    let checkpoint = data.place(b"state");
    let record = Record::default()
        .u8(0)
        .align(8)
        .pair(data.list(&[artifact]))
        .pair((checkpoint, 5))
        .u8(0)
        .align(4)
        .pair(data.list(&[report]))
        // No retry-after, no hint.
        .size(72);
    data.place(&record.0)
}

fn lay_failure(data: &mut Data) -> u32 {
    let record = Record::default()
        .u8(1)
        .align(8)
        // unauthorized
        .u8(1)
        .align(4)
        .text(data, "the key\nwas refused")
        .text(data, "Check the key.")
        .u8(1)
        .u16(401)
        .u8(0)
        .align(4)
        .size(8 + 36)
        .u8(1)
        // after-change
        .size(8 + 56);
    data.place(&record.0)
}
