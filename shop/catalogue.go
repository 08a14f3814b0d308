package shop

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cdcseed/cdcseed/models"
)

// line is one category of a department: what it is called, what its things are called, and what they cost.
type line struct {
	category string
	things   []string
	low      int // of the usual retail prices, in whole units of money
	high     int
}

// The categories are theLook's, so that its queries find them; brands, things and prices are invented here.
var departments = []struct {
	name  models.Department
	lines []line
}{
	{models.Women, []line{
		{"Accessories", []string{"Silk Scarf", "Leather Belt", "Wool Beret", "Tote Bag", "Sun Hat", "Knit Gloves"}, 9, 120},
		{"Active", []string{"Training Tank", "Running Tights", "Yoga Top", "Track Jacket", "Sports Bra"}, 18, 95},
		{"Blazers & Jackets", []string{"Cropped Blazer", "Denim Jacket", "Linen Blazer", "Moto Jacket"}, 45, 240},
		{"Clothing Sets", []string{"Two-Piece Knit Set", "Lounge Set", "Skirt and Top Set"}, 30, 140},
		{"Dresses", []string{"Wrap Dress", "Shirt Dress", "Maxi Dress", "Slip Dress", "Sheath Dress"}, 32, 260},
		{"Fashion Hoodies & Sweatshirts", []string{"Zip Hoodie", "Boxy Sweatshirt", "Fleece Pullover"}, 28, 110},
		{"Intimates", []string{"Lace Bralette", "Cotton Brief", "Camisole", "Slip"}, 12, 80},
		{"Jeans", []string{"High-Rise Jeans", "Bootcut Jeans", "Straight Jeans", "Wide-Leg Jeans"}, 40, 210},
		{"Jumpsuits & Rompers", []string{"Linen Jumpsuit", "Belted Romper", "Utility Jumpsuit"}, 35, 160},
		{"Leggings", []string{"Seamless Leggings", "Ribbed Leggings", "Cropped Leggings"}, 12, 75},
		{"Maternity", []string{"Nursing Top", "Over-Bump Jeans", "Maternity Dress"}, 25, 130},
		{"Outerwear & Coats", []string{"Trench Coat", "Puffer Coat", "Wool Coat", "Rain Parka"}, 70, 420},
		{"Pants & Capris", []string{"Tapered Pants", "Linen Capris", "Wide-Leg Pants"}, 28, 150},
		{"Plus", []string{"Plus Tunic", "Plus Wrap Top", "Plus Ponte Pants"}, 25, 120},
		{"Shorts", []string{"Denim Shorts", "Pleated Shorts", "Paperbag Shorts"}, 18, 85},
		{"Skirts", []string{"Midi Skirt", "Pencil Skirt", "Pleated Skirt"}, 24, 130},
		{"Sleep & Lounge", []string{"Satin Pajama Set", "Nightgown", "Waffle Robe"}, 22, 120},
		{"Socks & Hosiery", []string{"Sheer Tights", "Ankle Socks 3-Pack", "Knee Socks"}, 6, 38},
		{"Suits", []string{"Tailored Pantsuit", "Skirt Suit"}, 90, 380},
		{"Sweaters", []string{"Cardigan", "Mock-Neck Sweater", "Cable Pullover"}, 30, 190},
		{"Swim", []string{"One-Piece Swimsuit", "Bikini Top", "Swim Skirt"}, 22, 130},
		{"Tops & Tees", []string{"Crew Tee", "Peplum Top", "Henley Tee", "Poplin Shirt"}, 14, 90},
	}},
	{models.Men, []line{
		{"Accessories", []string{"Canvas Belt", "Card Wallet", "Flat Cap", "Wool Scarf", "Silk Tie"}, 9, 120},
		{"Active", []string{"Training Tee", "Track Pants", "Running Shorts", "Half-Zip Layer"}, 18, 95},
		{"Fashion Hoodies & Sweatshirts", []string{"Pullover Hoodie", "Raglan Sweatshirt", "Zip Fleece"}, 30, 115},
		{"Jeans", []string{"Slim Jeans", "Relaxed Jeans", "Selvedge Jeans", "Tapered Jeans"}, 40, 230},
		{"Outerwear & Coats", []string{"Field Jacket", "Down Parka", "Pea Coat", "Shell Anorak"}, 70, 460},
		{"Pants", []string{"Chinos", "Cargo Pants", "Corduroy Pants", "Pleated Trousers"}, 30, 160},
		{"Shorts", []string{"Chino Shorts", "Cargo Shorts", "Board Shorts"}, 20, 85},
		{"Sleep & Lounge", []string{"Flannel Pajama Set", "Jersey Lounge Pants", "Terry Robe"}, 20, 110},
		{"Socks", []string{"Dress Socks", "Crew Socks 6-Pack", "Hiking Socks"}, 6, 36},
		{"Suits & Sport Coats", []string{"Wool Suit", "Sport Coat", "Linen Suit"}, 110, 620},
		{"Sweaters", []string{"Crewneck Sweater", "Shawl Cardigan", "Merino Quarter-Zip"}, 34, 200},
		{"Swim", []string{"Swim Trunks", "Rash Guard", "Swim Briefs"}, 20, 90},
		{"Tops & Tees", []string{"Pocket Tee", "Oxford Shirt", "Polo Shirt", "Flannel Shirt"}, 14, 110},
		{"Underwear", []string{"Boxer Briefs 3-Pack", "Trunks", "Thermal Long Johns"}, 10, 60},
	}},
}

// Invented names; any likeness to a brand that exists is accidental.
var (
	brands = []string{
		"Alder & Finch", "Avenlo", "Bramwick", "Brightloom", "Calder Row", "Cindervale", "Copperlane", "Corvane", "Dunmere",
		"Eastmoor", "Elmstead", "Fable & Thread", "Fenwright", "Foxhollow", "Glenarbor", "Greyquill", "Halcyon Mill",
		"Harrowgate Supply", "Hollin", "Ilverton", "Juniper Quay", "Kestrel Lane", "Kindling", "Larkmere", "Lindenfold",
		"Lowtide", "Marlough", "Meridian Loom", "Millbrae", "Mossfield", "Nettlecombe", "Northbight", "Oakhurst Works",
		"Olivane", "Ossery", "Pallister", "Pinebarrow", "Quillon", "Ravensby", "Redmarsh", "Riverstitch", "Saltgrass",
		"Sorrel & Sons", "Stonecrop", "Tamsin Grey", "Thistledown", "Tillery", "Umberline", "Vantry", "Wainscot", "Westering",
		"Wickerby", "Wildrye", "Windlass", "Yarrowby", "Zephyrine",
	}
	styles = []string{
		"Classic", "Essential", "Heritage", "Modern", "Everyday", "Weekend", "Signature", "Relaxed", "Vintage", "Coastal",
		"Alpine", "Urban", "Studio", "Harbor", "Meadow", "Summit",
	}
	colors = []string{
		"Black", "Navy", "Charcoal", "Ivory", "Olive", "Rust", "Sand", "Burgundy", "Teal", "Stone", "Plum", "Slate", "Sage", "Ochre",
	}
)

// product is the n-th entry of the catalogue that the seed gives: a pure function, so that a catalogue of any size needs
// no memory.
func product(seed uint64, n int, updated time.Time) models.Product {
	r := source(seed, streamProduct, 0, uint64(n))
	d := departments[r.IntN(len(departments))]
	l := one(r, d.lines)
	brand := one(r, brands)
	// Prices lie closer to the low end, and end in .00, .50, .95 or .99.
	units := float64(l.low) * math.Pow(float64(l.high)/float64(l.low), r.Float64())
	price := models.Money(units)*100 + one(r, []models.Money{0, 50, 95, 99})
	return models.Product{
		ID:                   NthID(n),
		Cost:                 share(price, .35+.3*r.Float64()),
		Category:             l.category,
		Name:                 fmt.Sprintf("%s %s %s %s in %s", brand, d.name, one(r, styles), one(r, l.things), one(r, colors)),
		Brand:                brand,
		RetailPrice:          price,
		Department:           d.name,
		SKU:                  fmt.Sprintf("%016X%08X", r.Uint64(), n),
		DistributionCenterID: NthID(r.IntN(distributionCenters)),
		UpdatedAt:            updated,
	}
}

// share is a part of an amount, rounded to a hundredth.
func share(m models.Money, part float64) models.Money {
	return models.Money(math.Round(float64(m) * part))
}

// drift moves a product's price by up to ±15 percent; the cost follows by half. Neither falls below a hundredth.
func drift(r *rand.Rand, price, cost models.Money) (models.Money, models.Money) {
	by := -.15 + .3*r.Float64()
	return max(1, share(price, 1+by)), max(1, share(cost, 1+by/2))
}

// piece makes an unsold inventory item of a product.
func piece(id int64, p *models.Product, created time.Time) models.InventoryItem {
	return models.InventoryItem{
		ID: id, ProductID: p.ID, CreatedAt: created, Cost: p.Cost,
		ProductCategory: p.Category, ProductName: p.Name, ProductBrand: p.Brand, ProductRetailPrice: p.RetailPrice,
		ProductDepartment: p.Department, ProductSKU: p.SKU, ProductDistributionCenterID: p.DistributionCenterID,
		UpdatedAt: created,
	}
}

func departmentURI(p *models.Product) string {
	return "/department/" + slug(string(p.Department)) + "/category/" + slug(p.Category) + "/brand/" + slug(p.Brand)
}

func productURI(p *models.Product) string { return fmt.Sprintf("/product/%d", p.ID) }

// slug writes a name as theLook does in its URIs: lower case, without blanks.
func slug(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
