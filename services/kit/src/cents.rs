//! Money: a double on the wire, whole cents in the store.
//!
//! Every [`Cents`] becomes a double and returns from it unharmed.

use std::fmt;

/// An amount of money in cents, from 0 to [`Cents::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cents(i64);

/// An amount that is no whole number of cents in range; says which rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InvalidCents {
    found: f64,
    expected: &'static str,
}

impl Cents {
    /// Ten trillion units. Up to here two neighbouring amounts are never the same double.
    pub const MAX: Cents = Cents(1_000_000_000_000_000);

    /// The amount of the store, where it is one.
    pub fn new(cents: i64) -> Option<Self> {
        (0..=Self::MAX.0).contains(&cents).then_some(Self(cents))
    }

    /// The amount `units` stands for, for example 19.99.
    pub fn from_units(units: f64) -> Result<Self, InvalidCents> {
        let refuse = |expected| Err(InvalidCents { found: units, expected });
        if !units.is_finite() {
            return refuse("a finite number");
        }
        if units < 0.0 {
            return refuse("0 or more");
        }
        if units > Self::MAX.units() {
            return refuse("at most 10000000000000");
        }
        // In range by the checks above, and exact: below 2^53.
        let cents = Self((units * 100.0).round() as i64);
        // A number of two decimals is the double nearest to its cents, and no other is.
        if cents.units() != units {
            return refuse("two decimals at most");
        }
        Ok(cents)
    }

    /// The amount as the wire has it.
    pub fn units(self) -> f64 {
        self.0 as f64 / 100.0
    }

    /// The amount as the store has it.
    pub fn count(self) -> i64 {
        self.0
    }

    /// This price for `quantity` pieces, where that is still an amount.
    pub fn times(self, quantity: u32) -> Option<Self> {
        self.0.checked_mul(i64::from(quantity)).and_then(Self::new)
    }
}

impl fmt::Display for InvalidCents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {}, expected {}", self.found, self.expected)
    }
}

impl std::error::Error for InvalidCents {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_decimals_are_kept_exactly() {
        for (units, cents) in [(0.0, 0), (0.1, 10), (0.29, 29), (19.99, 1999), (999.99, 99_999)] {
            assert_eq!(Cents::from_units(units).unwrap().count(), cents);
        }
    }

    #[test]
    fn every_amount_returns_from_the_wire_unharmed() {
        let near_the_end = Cents::MAX.count() - 200..=Cents::MAX.count();
        let wide = (0..2_000).map(|step| step * 499_999_999_993);
        for count in (0..20_000).chain(near_the_end).chain(wide) {
            let cents = Cents::new(count).unwrap();
            assert_eq!(Cents::from_units(cents.units()), Ok(cents));
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_its_reason() {
        for (units, says) in [
            (1.999, "found 1.999, expected two decimals at most"),
            (0.001, "found 0.001, expected two decimals at most"),
            (-0.01, "found -0.01, expected 0 or more"),
            (f64::NAN, "found NaN, expected a finite number"),
            (f64::INFINITY, "found inf, expected a finite number"),
            (1e13 + 1.0, "found 10000000000001, expected at most 10000000000000"),
        ] {
            assert_eq!(Cents::from_units(units).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn a_product_past_the_largest_amount_is_none() {
        let price = Cents::from_units(2.5).unwrap();
        assert_eq!(price.times(4), Cents::from_units(10.0).ok());
        assert_eq!(Cents::MAX.times(2), None);
        assert_eq!(Cents::MAX.times(u32::MAX), None);
    }
}
