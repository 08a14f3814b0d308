package shop

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cdcseed/cdcseed/models"
)

var (
	femaleNames = []string{
		"Ada", "Aiko", "Alma", "Amara", "Ana", "Anika", "Bianca", "Camille", "Carla", "Chloe", "Clara", "Daria", "Diana", "Elena",
		"Elise", "Emma", "Eva", "Farah", "Fiona", "Gabriela", "Grace", "Hana", "Hannah", "Helena", "Ines", "Irene", "Isabel", "Jana",
		"Jia", "Julia", "Kaori", "Karin", "Laura", "Leila", "Lena", "Lin", "Lucia", "Maya", "Mei", "Mia", "Mina", "Nadia", "Nina",
		"Noor", "Olga", "Olivia", "Paula", "Priya", "Rosa", "Sakura", "Sara", "Seo-yeon", "Sofia", "Tessa", "Uma", "Vera", "Yuna", "Zoe",
	}
	maleNames = []string{
		"Aaron", "Adam", "Akira", "Alan", "Amir", "Andre", "Anton", "Ben", "Bruno", "Carlos", "Chen", "Daniel", "David", "Diego", "Emil",
		"Erik", "Felix", "Finn", "Gabriel", "Hao", "Haruto", "Hassan", "Henry", "Hugo", "Ian", "Ivan", "Jack", "Jae-won", "Jan", "Joao",
		"Jonas", "Jun", "Kenji", "Lars", "Leo", "Liam", "Lucas", "Marco", "Marcus", "Mateo", "Max", "Min-jun", "Nils", "Noah", "Omar",
		"Oscar", "Paul", "Pedro", "Rafael", "Ravi", "Ryo", "Samuel", "Simon", "Theo", "Tomas", "Victor", "Wei", "Yusuf",
	}
	lastNames = []string{
		"Abe", "Almeida", "Andersen", "Bauer", "Becker", "Bell", "Bernard", "Brooks", "Carter", "Castillo", "Chen", "Choi", "Costa",
		"Cruz", "Dubois", "Evans", "Fernandes", "Fischer", "Fontaine", "Garcia", "Gomes", "Gray", "Hall", "Hansen", "Hayashi", "Hoffmann",
		"Huang", "Hughes", "Ito", "Janssens", "Johnson", "Kang", "Kato", "Keller", "Kim", "Koch", "Kumar", "Lambert", "Laurent", "Lee",
		"Lewis", "Li", "Lima", "Liu", "Lopez", "Martin", "Martinez", "Mason", "Meyer", "Mori", "Morris", "Murphy", "Nakamura", "Navarro",
		"Oliveira", "Ortega", "Park", "Peeters", "Pereira", "Petit", "Ramos", "Reyes", "Ribeiro", "Richter", "Rossi", "Ruiz", "Santos",
		"Sato", "Schmidt", "Shah", "Silva", "Singh", "Smith", "Sousa", "Suzuki", "Takahashi", "Tanaka", "Torres", "Turner", "Vargas",
		"Wagner", "Walker", "Wang", "Watanabe", "Weber", "Willems", "Wright", "Wu", "Yamada", "Yang", "Young", "Zhang", "Zhao",
	}
	streets = []string{
		"Alder", "Birch", "Bridge", "Canal", "Castle", "Cedar", "Chapel", "Church", "Elm", "Garden", "Harbor", "Hill", "Lake", "Linden",
		"Main", "Maple", "Market", "Meadow", "Mill", "Oak", "Orchard", "Park", "Pine", "River", "School", "Spring", "Station", "Willow",
	}
	streetKinds = []string{"Street", "Avenue", "Road", "Lane", "Way", "Court"}
)

// person makes a customer who signs up at the time given.
func person(r *rand.Rand, id int64, created time.Time) models.User {
	gender, names := models.Female, femaleNames
	if r.IntN(2) == 0 {
		gender, names = models.Male, maleNames
	}
	first := one(r, names)
	last := one(r, lastNames)
	u := models.User{
		ID: id, FirstName: first, LastName: last, Email: email(first, last, id),
		Age: int32(minAge + r.IntN(maxAge-minAge+1)), Gender: gender,
		TrafficSource: pick(r, userTraffic), CreatedAt: created, UpdatedAt: created,
	}
	moveTo(r, &u, randomPlace(r))
	return u
}

// email is unique by the id and goes to a domain that is reserved for examples (RFC 2606).
func email(first, last string, id int64) string {
	return fmt.Sprintf("%s.%s.%d@example.com", strings.ToLower(first), strings.ToLower(last), id)
}

func street(r *rand.Rand) string {
	return fmt.Sprintf("%d %s %s", 1+r.IntN(1999), one(r, streets), one(r, streetKinds))
}

// moveTo gives a user an address in a place.
func moveTo(r *rand.Rand, u *models.User, p int) {
	at := &places[p]
	u.StreetAddress, u.City, u.State, u.PostalCode, u.Country = street(r), at.city, at.state, at.postalCode, at.country
	// Scattered within some three kilometres around the centre, in the five decimals of a metre or so.
	u.Latitude = at.latitude + float64(r.IntN(5001)-2500)/1e5
	u.Longitude = at.longitude + float64(r.IntN(5001)-2500)/1e5
}

// ipAddress draws an address from 198.18.0.0/15, set aside for tests by RFC 2544, so that no real host is named.
func ipAddress(r *rand.Rand) string {
	n := r.IntN(1 << 17)
	return fmt.Sprintf("198.%d.%d.%d", 18+n>>16, n>>8&255, n&255)
}
