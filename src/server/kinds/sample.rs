//! Realistic camera events of any number, the same for ever for the same seed: no clock, no map order, and a generator
//! of random numbers that no dependency can change.

use serde_json::json;

use crate::domain::event::{CameraEvent, RiskLevel};
use crate::domain::time::from_millis;

/// 2026-01-01T00:00:00Z. Fixed, so that a seed means the same events next year.
const START_MS: i64 = 1_767_225_600_000;
const DAYS: u64 = 90;
const DAY_MS: f64 = 86_400_000.0;

/// How busy each hour of a day is: quiet nights, two rushes.
static RHYTHM: [f64; 24] = [
    1.0, 0.8, 0.6, 0.6, 0.8, 1.5, 3.0, 5.5, 7.0, 6.0, 5.0, 5.0, 5.5, 5.0, 4.8, 5.2, 6.5, 7.5, 6.0, 4.5, 3.5, 2.8, 2.0,
    1.4,
];

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to just under 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 to `end` - 1. The bias of the remainder is far below what a sample shows.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        usize::try_from(self.below(from.len() as u64))
            .ok()
            .and_then(|i| from.get(i))
            .copied()
    }

    /// One of several, by weight.
    fn weighted<'a, T>(&mut self, from: &'a [T], weight: impl Fn(&T) -> u64) -> Option<&'a T> {
        let total: u64 = from.iter().map(&weight).sum();
        let mut at = self.below(total);
        from.iter().find(|item| {
            let w = weight(item);
            let hit = at < w;
            at = at.saturating_sub(w);
            hit
        })
    }
}

struct Site {
    name: &'static str,
    /// As people write it.
    title: &'static str,
    cameras: u64,
    zones: &'static [&'static str],
}

#[rustfmt::skip]
static SITES: [Site; 6] = [
    Site { name: "harbor", title: "Harbor", cameras: 8, zones: &["pier 4", "crane lane", "east gate", "fuel depot"] },
    Site { name: "hq", title: "Head office", cameras: 6, zones: &["lobby", "loading bay", "server room", "garage"] },
    Site { name: "depot", title: "Depot Süd", cameras: 5, zones: &["yard", "ramp 2", "weighbridge", "fence, north side"] },
    Site { name: "station", title: "Gare de l'Est", cameras: 6, zones: &["platform 1", "ticket hall", "escalator", "Café Métro"] },
    Site { name: "lab", title: "研究所", cameras: 3, zones: &["clean room", "chemical store", "entrance"] },
    Site { name: "farm", title: "Solar farm", cameras: 4, zones: &["array 7", "inverter hall", "access road"] },
];

/// What a camera can see: how often by day and by night, and how it is told.
struct Scene {
    label: &'static str,
    day: u64,
    night: u64,
    /// Percent medium, high and critical; the rest is low.
    risk: [u64; 3],
    summaries: &'static [&'static str],
}

#[rustfmt::skip]
static SCENES: [Scene; 10] = [
    Scene { label: "person_detected", day: 34, night: 12, risk: [8, 2, 0], summaries: &[
        "{n} people crossed {zone} at {site}.",
        "One person in a hi-vis vest walked through {zone}.",
        "A visitor waited at {zone} for {m} minutes, then left.",
        "Staff member recognised near {zone}, {site}; badge \"{badge}\".",
    ] },
    Scene { label: "vehicle", day: 26, night: 10, risk: [7, 2, 0], summaries: &[
        "Van with plate \"{plate}\" entered {zone}.",
        "{n} vehicles queued at {zone}, {site}.",
        "Delivery truck {plate} parked at {zone} for {m} minutes.",
    ] },
    Scene { label: "motion", day: 14, night: 16, risk: [3, 0, 0], summaries: &[
        "Motion in {zone}, nothing recognised.",
        "Branches moving in front of the camera at {zone}.",
        "Cat crossing {zone}.",
    ] },
    Scene { label: "line_crossing", day: 9, night: 10, risk: [30, 8, 1], summaries: &[
        "A person crossed the virtual line at {zone} against the permitted direction.",
        "Line crossed at {zone}, {site}: {n} times within {m} minutes.",
    ] },
    Scene { label: "loitering", day: 5, night: 14, risk: [45, 14, 2], summaries: &[
        "Two people stayed at {zone} for {m} minutes, out of opening hours.",
        "Someone has been standing at {zone} since {m} minutes; face not visible.",
    ] },
    Scene { label: "abandoned_object", day: 4, night: 3, risk: [40, 25, 4], summaries: &[
        "A suitcase was left at {zone}, {site}, {m} minutes ago.",
        "Cardboard box (approx. {n}0 × {n}0 cm) blocks {zone}.",
    ] },
    Scene { label: "perimeter_breach", day: 1, night: 9, risk: [20, 55, 20], summaries: &[
        "Fence climbed at {zone}; {n} people inside the perimeter.",
        "Gate at {zone} forced open, guard called: \"code {badge}\".",
    ] },
    Scene { label: "smoke", day: 1, night: 1, risk: [25, 40, 30], summaries: &[
        "Smoke above {zone}, {site}; temperature rose by {m} °C.",
        "Haze at {zone}: steam or smoke, not yet decided.",
    ] },
    Scene { label: "camera_tampering", day: 1, night: 3, risk: [30, 50, 8], summaries: &[
        "View of {zone} covered for {m} minutes.",
        "Camera turned away from {zone} by about {m}°.",
    ] },
    Scene { label: "crowd", day: 5, night: 1, risk: [25, 6, 1], summaries: &[
        "More than {n}0 people at {zone}, {site}; the limit is {m}.",
        "Crowd at {zone}, moving slowly, no exit blocked.",
    ] },
];

/// `count` events in the order of time, made one by one: any number costs the same memory.
#[derive(Clone, Debug)]
pub struct Samples {
    random: Random,
    seed: u64,
    count: u64,
    made: u64,
}

impl Samples {
    pub fn new(seed: u64, count: u64) -> Self {
        // Neighbouring seeds must not give shifted copies of one sequence.
        let mut mixed = Random(seed);
        Self {
            random: Random(mixed.next()),
            seed,
            count,
            made: 0,
        }
    }

    /// The moment of the event that lies at `share` (0..1) of all, and its hour.
    fn moment(share: f64) -> (i64, usize) {
        let days = share * DAYS as f64;
        let day = days.floor();
        let mut rest = (days - day) * RHYTHM.iter().sum::<f64>();
        let mut hour = 0;
        for (h, weight) in RHYTHM.iter().enumerate() {
            hour = h;
            if rest < *weight {
                break;
            }
            rest -= weight;
        }
        let within = (rest / RHYTHM[hour]).clamp(0.0, 0.999_999);
        let ms = day * DAY_MS + (hour as f64 + within) * DAY_MS / 24.0;
        (START_MS + ms as i64, hour)
    }

    fn event(&mut self, n: u64) -> Option<CameraEvent> {
        let share = (n as f64 + self.random.unit()) / self.count as f64;
        let (at, hour) = Self::moment(share);
        let night = !(6..21).contains(&hour);
        let r = &mut self.random;
        let site = r.weighted(&SITES, |s| s.cameras)?;
        let camera = 1 + r.below(site.cameras);
        let scene = r.weighted(&SCENES, |s| if night { s.night } else { s.day })?;
        let zone = r.pick(site.zones)?;
        let [medium, high, critical] = scene.risk;
        let risk_level = match r.below(100) {
            x if x < critical => RiskLevel::Critical,
            x if x < critical + high => RiskLevel::High,
            x if x < critical + high + medium => RiskLevel::Medium,
            _ => RiskLevel::Low,
        };
        let plate = format!(
            "{}-{} {}",
            r.pick(&["HH", "M", "B", "AB"])?,
            r.pick(&["KX", "TR", "E", "ÖL"])?,
            100 + r.below(9_900)
        );
        let summary = r
            .pick(scene.summaries)?
            .replace("{n}", &(2 + r.below(7)).to_string())
            .replace("{m}", &(3 + r.below(40)).to_string())
            .replace("{badge}", &format!("{:04}", r.below(10_000)))
            .replace("{plate}", &plate)
            .replace("{zone}", zone)
            .replace("{site}", site.title);
        let reviewed = r.chance(match risk_level {
            RiskLevel::Low => 36,
            RiskLevel::Medium => 48,
            RiskLevel::High => 62,
            RiskLevel::Critical => 80,
        });
        let confidence = (55 + r.below(45)) as f64 / 100.0;
        let (width, height) = (40 + r.below(360), 60 + r.below(500));
        let (x, y) = (r.below(1_920 - width), r.below(1_080 - height));
        Some(CameraEvent {
            id: format!("evt_{}_{:07}", self.seed, n + 1),
            camera_id: format!("cam-{}-{camera:02}", site.name),
            occurred_at: from_millis(at),
            risk_level,
            label: scene.label.into(),
            summary,
            reviewed,
            metadata: json!({ "confidence": confidence, "bbox": [x, y, width, height], "zone": zone, "night": night }),
        })
    }
}

impl Iterator for Samples {
    type Item = CameraEvent;

    fn next(&mut self) -> Option<CameraEvent> {
        if self.made >= self.count {
            return None;
        }
        let n = self.made;
        self.made += 1;
        self.event(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_seed_gives_the_same_events_and_another_seed_others() {
        let a: Vec<_> = Samples::new(7, 500).collect();
        assert_eq!(a, Samples::new(7, 500).collect::<Vec<_>>());
        let b: Vec<_> = Samples::new(8, 500).collect();
        assert!(a.iter().zip(&b).all(|(a, b)| a.id != b.id));
        assert!(a.iter().zip(&b).filter(|(a, b)| a.summary == b.summary).count() < 100);
    }

    #[test]
    fn events_are_in_order_within_the_limits_and_look_real() {
        let all: Vec<_> = Samples::new(7, 20_000).collect();
        assert_eq!(all.len(), 20_000);
        assert!(all.windows(2).all(|w| w[0].occurred_at <= w[1].occurred_at));
        assert_eq!(all.iter().map(|e| &e.id).collect::<HashSet<_>>().len(), all.len());
        assert!(all.iter().all(|e| {
            !e.label.is_empty()
                && e.summary.len() <= CameraEvent::SUMMARY_MAX
                && !e.summary.contains('{')
                && e.camera_id.len() <= CameraEvent::CAMERA_MAX
                && e.metadata.is_object()
        }));
        let share = |f: &dyn Fn(&CameraEvent) -> bool| all.iter().filter(|e| f(e)).count() * 100 / all.len();
        assert!((35..=46).contains(&share(&|e| e.reviewed)));
        assert!(share(&|e| e.risk_level == RiskLevel::Low) > 60);
        for level in RiskLevel::ALL {
            assert!(all.iter().any(|e| e.risk_level == level), "{level:?}");
        }
        assert!(all.iter().any(|e| e.summary.contains('"')) && all.iter().any(|e| e.summary.contains(',')));
        assert!(all.iter().any(|e| !e.summary.is_ascii()));
        assert!(share(&|e| e.metadata["night"] == true) < 35);
    }

    #[test]
    fn any_number_is_possible() {
        assert_eq!(Samples::new(1, 0).count(), 0);
        assert_eq!(Samples::new(1, 1).count(), 1);
        let huge = Samples::new(1, 1_000_000_000).take(3).collect::<Vec<_>>();
        assert_eq!(huge.len(), 3);
    }
}
