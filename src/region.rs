//! The regions of the Insight Platform.
//!
//! Each region is an API host of its own, and a key works in its region only.
//! Labels and hosts are those of the operator's guide. The host always comes
//! from this table: region codes inside RRNs differ from host codes (`us1`
//! against `us`), so nothing else may be used to make one.

/// A region of the Insight Platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// The value of the `region` setting, for example `us2`.
    pub code: &'static str,
    /// The label of the form, for example `US 2`.
    pub label: &'static str,
    /// The API host.
    pub host: &'static str,
}

/// All regions, in the order of the guide's table.
pub const REGIONS: [Region; 7] = [
    Region { code: "us", label: "US 1", host: "us.api.insight.rapid7.com" },
    Region { code: "us2", label: "US 2", host: "us2.api.insight.rapid7.com" },
    Region { code: "us3", label: "US 3", host: "us3.api.insight.rapid7.com" },
    Region { code: "eu", label: "EU", host: "eu.api.insight.rapid7.com" },
    Region { code: "ca", label: "Canada", host: "ca.api.insight.rapid7.com" },
    Region { code: "au", label: "Australia", host: "au.api.insight.rapid7.com" },
    Region { code: "ap", label: "Japan", host: "ap.api.insight.rapid7.com" },
];

/// The region with this code, if there is one.
#[must_use]
pub fn by_code(code: &str) -> Option<Region> {
    REGIONS.into_iter().find(|region| region.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_has_the_host_of_its_code() {
        for region in REGIONS {
            assert_eq!(region.host, format!("{}.api.insight.rapid7.com", region.code));
            assert_eq!(by_code(region.code), Some(region));
        }
        assert_eq!(by_code("US"), None);
    }
}
