//! Parts of long lists.

use serde::{Deserialize, Serialize};

/// How many items a list answers with unless told otherwise, and at the most.
pub const LIMIT_DEFAULT: u32 = 50;
pub const LIMIT_MAX: u32 = 1_000;

/// Counting stops here: "10,000+".
pub const COUNT_CAP: u64 = 10_000;

/// Which part of a list. `cursor` (from the answer before) excludes `offset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// 1 to [`LIMIT_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Matching items in all; at least this many when `total_capped`.
    pub total: u64,
    /// There may be more: counting stopped at [`COUNT_CAP`], or the search could not look at every job.
    pub total_capped: bool,
    /// Jobs that changed so short a time ago that the search has not looked at them; 0 for those who don't see all jobs.
    #[serde(default)]
    pub unsearched: u64,
    /// Hand it in as `cursor` for the next part; absent at the end.
    pub next_cursor: Option<String>,
}

/// "1 job", "5 jobs", "12,345 jobs", "10,000+ jobs".
pub fn count_label(count: u64, capped: bool, one: &str, many: &str) -> String {
    let plus = if capped { "+" } else { "" };
    let noun = if count == 1 && !capped { one } else { many };
    format!("{}{plus} {noun}", grouped(count))
}

/// 1234567 as "1,234,567".
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// "512 B", "1.5 KB", "20.4 MB": bytes in powers of 1000.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    if n < 1_000 {
        return format!("{n} B");
    }
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.95 && unit < UNITS.len() - 1 {
        value /= 1_000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_well() {
        assert_eq!(count_label(0, false, "job", "jobs"), "0 jobs");
        assert_eq!(count_label(1, false, "job", "jobs"), "1 job");
        assert_eq!(count_label(12_345, false, "job", "jobs"), "12,345 jobs");
        assert_eq!(count_label(10_000, true, "job", "jobs"), "10,000+ jobs");
    }

    #[test]
    fn bytes_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 KB");
        assert_eq!(bytes(999_960), "1.0 MB");
        assert_eq!(bytes(20_400_000), "20.4 MB");
    }
}
