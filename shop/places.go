package shop

import "math/rand/v2"

type place struct {
	city, state, postalCode, country string
	latitude, longitude              float64
	weight                           int // customers, roughly as the countries share theLook's
}

// places are facts: cities with a postal code of their centre and its coordinates, rounded to four decimals.
var places = []place{
	{"New York", "New York", "10001", "United States", 40.7506, -73.9972, 9},
	{"Los Angeles", "California", "90012", "United States", 34.0614, -118.2385, 8},
	{"San Francisco", "California", "94103", "United States", 37.7725, -122.4147, 4},
	{"San Diego", "California", "92101", "United States", 32.7185, -117.1593, 3},
	{"Chicago", "Illinois", "60604", "United States", 41.8785, -87.6300, 5},
	{"Houston", "Texas", "77002", "United States", 29.7594, -95.3594, 5},
	{"Dallas", "Texas", "75201", "United States", 32.7904, -96.8044, 3},
	{"Austin", "Texas", "78701", "United States", 30.2713, -97.7426, 3},
	{"Phoenix", "Arizona", "85004", "United States", 33.4515, -112.0686, 3},
	{"Philadelphia", "Pennsylvania", "19107", "United States", 39.9510, -75.1586, 3},
	{"Columbus", "Ohio", "43215", "United States", 39.9671, -83.0044, 3},
	{"Jacksonville", "Florida", "32202", "United States", 30.3299, -81.6517, 2},
	{"Miami", "Florida", "33130", "United States", 25.7672, -80.2050, 3},
	{"Charlotte", "North Carolina", "28202", "United States", 35.2269, -80.8433, 2},
	{"Seattle", "Washington", "98101", "United States", 47.6114, -122.3305, 2},
	{"Denver", "Colorado", "80202", "United States", 39.7491, -104.9946, 2},
	{"Boston", "Massachusetts", "02108", "United States", 42.3576, -71.0684, 2},
	{"Atlanta", "Georgia", "30303", "United States", 33.7525, -84.3888, 2},
	{"Nashville", "Tennessee", "37203", "United States", 36.1504, -86.7916, 1},
	{"Shanghai", "Shanghai", "200000", "China", 31.2304, 121.4737, 12},
	{"Beijing", "Beijing", "100000", "China", 39.9042, 116.4074, 10},
	{"Guangzhou", "Guangdong", "510000", "China", 23.1291, 113.2644, 8},
	{"Shenzhen", "Guangdong", "518000", "China", 22.5431, 114.0579, 8},
	{"Chengdu", "Sichuan", "610000", "China", 30.5728, 104.0668, 6},
	{"Wuhan", "Hubei", "430000", "China", 30.5928, 114.3055, 5},
	{"Hangzhou", "Zhejiang", "310000", "China", 30.2741, 120.1551, 5},
	{"Nanjing", "Jiangsu", "210000", "China", 32.0603, 118.7969, 5},
	{"Changsha", "Hunan", "410000", "China", 28.2282, 112.9388, 4},
	{"Qingdao", "Shandong", "266000", "China", 36.0671, 120.3826, 4},
	{"Sao Paulo", "São Paulo", "01001-000", "Brasil", -23.5505, -46.6333, 7},
	{"Rio de Janeiro", "Rio de Janeiro", "20040-002", "Brasil", -22.9068, -43.1729, 3},
	{"Belo Horizonte", "Minas Gerais", "30110-002", "Brasil", -19.9167, -43.9345, 2},
	{"Salvador", "Bahia", "40020-000", "Brasil", -12.9777, -38.5016, 2},
	{"Curitiba", "Paraná", "80010-000", "Brasil", -25.4284, -49.2733, 1},
	{"Seoul", "Seoul", "04524", "South Korea", 37.5665, 126.9780, 3},
	{"Busan", "Busan", "47545", "South Korea", 35.1796, 129.0756, 1},
	{"Incheon", "Incheon", "21554", "South Korea", 37.4563, 126.7052, 1},
	{"Tokyo", "Tokyo", "100-0001", "Japan", 35.6846, 139.7526, 2},
	{"Osaka", "Osaka", "530-0001", "Japan", 34.7025, 135.4959, 1},
	{"Nagoya", "Aichi", "450-0002", "Japan", 35.1706, 136.8816, 1},
	{"Paris", "Île-de-France", "75001", "France", 48.8626, 2.3363, 3},
	{"Lyon", "Auvergne-Rhône-Alpes", "69001", "France", 45.7676, 4.8344, 1},
	{"Marseille", "Provence-Alpes-Côte d'Azur", "13001", "France", 43.3000, 5.3820, 1},
	{"London", "England", "EC1A 1BB", "United Kingdom", 51.5203, -0.0974, 3},
	{"Manchester", "England", "M1 1AE", "United Kingdom", 53.4774, -2.2309, 1},
	{"Edinburgh", "Scotland", "EH1 1YZ", "United Kingdom", 55.9521, -3.1890, 1},
	{"Berlin", "Berlin", "10115", "Germany", 52.5323, 13.3846, 2},
	{"Hamburg", "Hamburg", "20095", "Germany", 53.5534, 10.0015, 1},
	{"Munich", "Bavaria", "80331", "Germany", 48.1352, 11.5717, 1},
	{"Madrid", "Community of Madrid", "28001", "Spain", 40.4238, -3.6877, 2},
	{"Barcelona", "Catalonia", "08001", "Spain", 41.3797, 2.1682, 2},
	{"Sydney", "New South Wales", "2000", "Australia", -33.8688, 151.2093, 1},
	{"Melbourne", "Victoria", "3000", "Australia", -37.8136, 144.9631, 1},
	{"Brussels", "Brussels", "1000", "Belgium", 50.8466, 4.3517, 1},
	{"Antwerp", "Flanders", "2000", "Belgium", 51.2194, 4.4025, 1},
}

// warehouses are the distribution centres: ten hubs of freight in the United States.
var warehouses = [distributionCenters]struct {
	name                string
	latitude, longitude float64
}{
	{"Atlanta GA", 33.7490, -84.3880},
	{"Charlotte NC", 35.2271, -80.8431},
	{"Columbus OH", 39.9612, -82.9988},
	{"Dallas TX", 32.7767, -96.7970},
	{"Jacksonville FL", 30.3322, -81.6557},
	{"Kansas City MO", 39.0997, -94.5786},
	{"Louisville KY", 38.2527, -85.7585},
	{"Newark NJ", 40.7357, -74.1724},
	{"Reno NV", 39.5296, -119.8138},
	{"Seattle WA", 47.6062, -122.3321},
}

// placeTable and placeByCity are views of places.
var (
	placeTable = func() []choice[int] {
		out := make([]choice[int], len(places))
		for i, p := range places {
			out[i] = choice[int]{float64(p.weight), i}
		}
		return out
	}()
	placeByCity = func() map[[2]string]int {
		out := make(map[[2]string]int, len(places))
		for i, p := range places {
			out[[2]string{p.city, p.postalCode}] = i
		}
		return out
	}()
)

func randomPlace(r *rand.Rand) int { return pick(r, placeTable) }
