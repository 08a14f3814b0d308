package shop

import "github.com/cdcseed/cdcseed/models"

// The weights below are those of theLook's generator.
var (
	historyStatus = []choice[models.OrderStatus]{
		{.20, models.Processing}, {.30, models.Shipped}, {.25, models.Complete}, {.15, models.Cancelled}, {.10, models.Returned},
	}
	ordersPerUser = []choice[int]{{.2, 0}, {.5, 1}, {.2, 2}, {.05, 3}, {.05, 4}}
	itemsPerOrder = []choice[int]{{.7, 1}, {.2, 2}, {.05, 3}, {.05, 4}}
	userTraffic   = []choice[string]{{.15, "Organic"}, {.06, "Facebook"}, {.70, "Search"}, {.05, "Email"}, {.04, "Display"}}
	eventTraffic  = []choice[string]{{.45, "Email"}, {.30, "Adwords"}, {.05, "Organic"}, {.10, "YouTube"}, {.10, "Facebook"}}
	browsers      = []choice[string]{{.05, "IE"}, {.50, "Chrome"}, {.20, "Safari"}, {.20, "Firefox"}, {.05, "Other"}}
)

// Sizes of the public dataset, which is scale factor 1.
const (
	baseUsers           = 100_000
	baseProducts        = 29_120
	inventoryPerUser    = 4.9 // 490,000 of 100,000
	eventsPerUser       = 24  // 2.4 million of 100,000
	minAge, maxAge      = 12, 70
	distributionCenters = 10
)

// Sizes returns the users and products of a scale factor; at least one of each.
func Sizes(scaleFactor float64) (users, products int) {
	return max(1, int(scaleFactor*baseUsers+.5)), max(1, int(scaleFactor*baseProducts+.5))
}
