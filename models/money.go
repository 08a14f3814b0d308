package models

import (
	"database/sql/driver"
	"fmt"
	"math/big"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"
)

// Money is an amount in hundredths, the unit of a NUMERIC(10,2) column. Whole numbers keep prices exact.
type Money int64

// String renders the amount with two decimals, as Postgres prints the column: "12.30", "-0.05".
func (m Money) String() string {
	sign, v := "", int64(m)
	if v < 0 {
		sign, v = "-", -v
	}
	return fmt.Sprintf("%s%d.%02d", sign, v/100, v%100)
}

// NumericValue implements pgtype.NumericValuer, so that pgx sends the amount in binary.
func (m Money) NumericValue() (pgtype.Numeric, error) {
	return pgtype.Numeric{Int: big.NewInt(int64(m)), Exp: -2, Valid: true}, nil
}

// ScanNumeric implements pgtype.NumericScanner. A NULL, NaN or infinite value, and one with more than two decimals,
// is an error: no column of ours can hold it.
func (m *Money) ScanNumeric(n pgtype.Numeric) error {
	if !n.Valid || n.NaN || n.InfinityModifier != pgtype.Finite || n.Int == nil {
		return fmt.Errorf("models: %+v is no amount of money", n)
	}
	if n.Exp < -20 || n.Exp > 20 {
		return fmt.Errorf("models: an amount of money with exponent %d is out of range", n.Exp)
	}
	v := new(big.Int).Set(n.Int)
	ten := big.NewInt(10)
	for e := n.Exp; e > -2; e-- {
		v.Mul(v, ten)
	}
	for e := n.Exp; e < -2; e++ {
		var rest big.Int
		if v.QuoRem(v, ten, &rest); rest.Sign() != 0 {
			return fmt.Errorf("models: an amount of money has two decimals, not %d", -n.Exp)
		}
	}
	if !v.IsInt64() {
		return fmt.Errorf("models: amount %s is out of range", v)
	}
	*m = Money(v.Int64())
	return nil
}

// Value implements driver.Valuer for database/sql, GORM's way in.
func (m Money) Value() (driver.Value, error) { return m.String(), nil }

// Scan implements sql.Scanner for database/sql, GORM's way out.
func (m *Money) Scan(src any) error {
	var n pgtype.Numeric
	switch v := src.(type) {
	case string:
		if err := n.Scan(v); err != nil {
			return fmt.Errorf("models: read amount %q: %w", v, err)
		}
	case []byte:
		return m.Scan(string(v))
	case int64:
		return m.Scan(strconv.FormatInt(v, 10))
	case float64:
		return m.Scan(strconv.FormatFloat(v, 'f', -1, 64))
	default:
		return fmt.Errorf("models: cannot read an amount from %T", src)
	}
	return m.ScanNumeric(n)
}
