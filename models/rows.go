package models

import "time"

// User is a customer of the shop.
type User struct {
	ID            int64     `gorm:"column:id;type:bigint;primaryKey"`
	FirstName     string    `gorm:"column:first_name;type:text;not null"`
	LastName      string    `gorm:"column:last_name;type:text;not null"`
	Email         string    `gorm:"column:email;type:text;not null"`
	Age           int32     `gorm:"column:age;type:integer;not null"`
	Gender        Gender    `gorm:"column:gender;type:text;not null"`
	State         string    `gorm:"column:state;type:text;not null"`
	StreetAddress string    `gorm:"column:street_address;type:text;not null"`
	PostalCode    string    `gorm:"column:postal_code;type:text;not null"`
	City          string    `gorm:"column:city;type:text;not null"`
	Country       string    `gorm:"column:country;type:text;not null"`
	Latitude      float64   `gorm:"column:latitude;type:double precision;not null"`
	Longitude     float64   `gorm:"column:longitude;type:double precision;not null"`
	TrafficSource string    `gorm:"column:traffic_source;type:text;not null"`
	CreatedAt     time.Time `gorm:"column:created_at;type:timestamp with time zone;not null"`
	UpdatedAt     time.Time `gorm:"column:updated_at;type:timestamp with time zone;not null"`
}

// DistributionCenter is a warehouse. The set is fixed; nothing in the workload changes it.
type DistributionCenter struct {
	ID        int64   `gorm:"column:id;type:bigint;primaryKey"`
	Name      string  `gorm:"column:name;type:text;not null"`
	Latitude  float64 `gorm:"column:latitude;type:double precision;not null"`
	Longitude float64 `gorm:"column:longitude;type:double precision;not null"`
}

// Product is an entry of the catalogue.
type Product struct {
	ID                   int64      `gorm:"column:id;type:bigint;primaryKey"`
	Cost                 Money      `gorm:"column:cost;type:numeric(10,2);not null"`
	Category             string     `gorm:"column:category;type:text;not null"`
	Name                 string     `gorm:"column:name;type:text;not null"`
	Brand                string     `gorm:"column:brand;type:text;not null"`
	RetailPrice          Money      `gorm:"column:retail_price;type:numeric(10,2);not null"`
	Department           Department `gorm:"column:department;type:text;not null"`
	SKU                  string     `gorm:"column:sku;type:text;not null"`
	DistributionCenterID int64      `gorm:"column:distribution_center_id;type:bigint;not null"`
	UpdatedAt            time.Time  `gorm:"column:updated_at;type:timestamp with time zone;not null"`
}

// InventoryItem is one physical piece of a product. SoldAt is set exactly while the piece belongs to an order that was
// neither cancelled nor returned.
type InventoryItem struct {
	ID                          int64      `gorm:"column:id;type:bigint;primaryKey"`
	ProductID                   int64      `gorm:"column:product_id;type:bigint;not null"`
	CreatedAt                   time.Time  `gorm:"column:created_at;type:timestamp with time zone;not null"`
	SoldAt                      *time.Time `gorm:"column:sold_at;type:timestamp with time zone"`
	Cost                        Money      `gorm:"column:cost;type:numeric(10,2);not null"`
	ProductCategory             string     `gorm:"column:product_category;type:text;not null"`
	ProductName                 string     `gorm:"column:product_name;type:text;not null"`
	ProductBrand                string     `gorm:"column:product_brand;type:text;not null"`
	ProductRetailPrice          Money      `gorm:"column:product_retail_price;type:numeric(10,2);not null"`
	ProductDepartment           Department `gorm:"column:product_department;type:text;not null"`
	ProductSKU                  string     `gorm:"column:product_sku;type:text;not null"`
	ProductDistributionCenterID int64      `gorm:"column:product_distribution_center_id;type:bigint;not null"`
	UpdatedAt                   time.Time  `gorm:"column:updated_at;type:timestamp with time zone;not null"`
}

// Order is a purchase of one to four items.
type Order struct {
	OrderID     int64       `gorm:"column:order_id;type:bigint;primaryKey"`
	UserID      int64       `gorm:"column:user_id;type:bigint;not null"`
	Status      OrderStatus `gorm:"column:status;type:text;not null"`
	Gender      Gender      `gorm:"column:gender;type:text;not null"`
	CreatedAt   time.Time   `gorm:"column:created_at;type:timestamp with time zone;not null"`
	ReturnedAt  *time.Time  `gorm:"column:returned_at;type:timestamp with time zone"`
	ShippedAt   *time.Time  `gorm:"column:shipped_at;type:timestamp with time zone"`
	DeliveredAt *time.Time  `gorm:"column:delivered_at;type:timestamp with time zone"`
	NumOfItem   int32       `gorm:"column:num_of_item;type:integer;not null"`
	UpdatedAt   time.Time   `gorm:"column:updated_at;type:timestamp with time zone;not null"`
}

// OrderItem is one piece within an order; its status and times follow the order's.
type OrderItem struct {
	ID              int64       `gorm:"column:id;type:bigint;primaryKey"`
	OrderID         int64       `gorm:"column:order_id;type:bigint;not null"`
	UserID          int64       `gorm:"column:user_id;type:bigint;not null"`
	ProductID       int64       `gorm:"column:product_id;type:bigint;not null"`
	InventoryItemID int64       `gorm:"column:inventory_item_id;type:bigint;not null"`
	Status          OrderStatus `gorm:"column:status;type:text;not null"`
	CreatedAt       time.Time   `gorm:"column:created_at;type:timestamp with time zone;not null"`
	ShippedAt       *time.Time  `gorm:"column:shipped_at;type:timestamp with time zone"`
	DeliveredAt     *time.Time  `gorm:"column:delivered_at;type:timestamp with time zone"`
	ReturnedAt      *time.Time  `gorm:"column:returned_at;type:timestamp with time zone"`
	SalePrice       Money       `gorm:"column:sale_price;type:numeric(10,2);not null"`
	UpdatedAt       time.Time   `gorm:"column:updated_at;type:timestamp with time zone;not null"`
}

// Event is one request of a visit to the web shop. UserID is nil for a ghost, a visitor who never signed in.
type Event struct {
	ID             int64     `gorm:"column:id;type:bigint;primaryKey"`
	UserID         *int64    `gorm:"column:user_id;type:bigint"`
	SequenceNumber int32     `gorm:"column:sequence_number;type:integer;not null"`
	SessionID      string    `gorm:"column:session_id;type:text;not null"`
	CreatedAt      time.Time `gorm:"column:created_at;type:timestamp with time zone;not null"`
	IPAddress      string    `gorm:"column:ip_address;type:text;not null"`
	City           string    `gorm:"column:city;type:text;not null"`
	State          string    `gorm:"column:state;type:text;not null"`
	PostalCode     string    `gorm:"column:postal_code;type:text;not null"`
	Browser        string    `gorm:"column:browser;type:text;not null"`
	TrafficSource  string    `gorm:"column:traffic_source;type:text;not null"`
	URI            string    `gorm:"column:uri;type:text;not null"`
	EventType      EventType `gorm:"column:event_type;type:text;not null"`
}

// Heartbeat is the row that the connector's heartbeat.action.query touches, so that the slot of an idle database
// moves on and its WAL can be removed.
type Heartbeat struct {
	ID int64     `gorm:"column:id;type:bigint;primaryKey"`
	TS time.Time `gorm:"column:ts;type:timestamp with time zone;not null"`
}

// TableName tells GORM the table's name.
func (User) TableName() string { return TableUsers }

// TableName tells GORM the table's name.
func (DistributionCenter) TableName() string { return TableDistributionCenters }

// TableName tells GORM the table's name.
func (Product) TableName() string { return TableProducts }

// TableName tells GORM the table's name.
func (InventoryItem) TableName() string { return TableInventoryItems }

// TableName tells GORM the table's name.
func (Order) TableName() string { return TableOrders }

// TableName tells GORM the table's name.
func (OrderItem) TableName() string { return TableOrderItems }

// TableName tells GORM the table's name.
func (Event) TableName() string { return TableEvents }

// TableName tells GORM the table's name.
func (Heartbeat) TableName() string { return TableHeartbeat }
