"""Reading a folder: what is understood, and what is told of everything else."""

import unicodedata
from decimal import Decimal

import pytest

from catalog.product_csv import CatalogueError, parse_price, parse_stock, read_catalogue


def problems(read) -> list[tuple[int, str]]:
    return [(problem.line, problem.message) for problem in read.problems]


def test_reads_every_field(folder):
    read = read_catalogue(
        folder(
            "sku,name,category,price,description,stock,image,colours,colour_images,published\n"
            'A-1,Mug,Kitchen / Cups,12.50,"Holds tea, and\nmore tea.",7,a.jpg,red|blue,b.jpg,yes\n',
            "a.jpg",
            "b.jpg",
        )
    )
    assert not read.problems
    (product,) = read.products
    assert (product.sku, product.name, product.category) == ("A-1", "Mug", ("Kitchen", "Cups"))
    assert (product.price, product.stock, product.is_published) == (Decimal("12.50"), 7, True)
    assert product.description == "Holds tea, and\nmore tea."
    assert [(photo.path.name, photo.caption) for photo in product.photos] == [("a.jpg", "red"), ("b.jpg", "blue")]


@pytest.mark.parametrize(
    "header",
    [
        "Product SKU;Title;Product Category;Unit Price;Photo",
        "ID;Product-Name;type;PRICE;images",
        "handle;name;category;Variant Price;Image_1",
    ],
)
def test_knows_other_column_names_and_semicolons(folder, header):
    read = read_catalogue(folder(f"{header}\nA-1;Mug;Kitchen/Cups;12,50;a.jpg\n", "a.jpg"))
    assert not read.problems
    (product,) = read.products
    assert (product.sku, product.name, product.category, product.price) == (
        "A-1",
        "Mug",
        ("Kitchen", "Cups"),
        Decimal("12.50"),
    )
    assert [photo.path.name for photo in product.photos] == ["a.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_reads_the_encodings_that_spreadsheets_write(folder, encoding):
    read = read_catalogue(folder("sku,name\r\nA-1,Café chaîse\r\n", encoding=encoding))
    assert [product.name for product in read.products] == ["Café chaîse"]


def test_line_numbers_count_quoted_newlines_and_empty_lines(folder):
    read = read_catalogue(folder('sku,name,price,description\nA,One,1,"two\nlines"\n\nB,Two,free,x\n'))
    assert problems(read) == [(5, "“free” is not a price.")]
    assert [product.sku for product in read.products] == ["A"]
    assert read.left_out == 1


def test_columns_padded_with_blanks(folder):
    read = read_catalogue(folder('sku ,name      ,description    ,price\nA   ,"Big, mug" ,"Says ""hi""."  ,3\n'))
    assert not read.problems
    assert (read.products[0].name, read.products[0].description) == ("Big, mug", 'Says "hi".')


def test_rows_of_one_group_are_one_product(folder):
    read = read_catalogue(
        folder(
            "id,title,image,group_id,product_sku,variant,view\n"
            "1,Tee,a.jpg,g1,TEE,red,main\n2,Tee,b.jpg,g1,TEE,red,back\n3,Cap,c.jpg,g2,,,main\n4,Cap,d.jpg,g2,,,main\n"
            "5,Sock,e.jpg,,,,\n",
            *(f"{letter}.jpg" for letter in "abcde"),
        )
    )
    assert not read.problems
    assert [(p.sku, len(p.photos)) for p in read.products] == [("TEE", 2), ("g2", 2), ("5", 1)]
    assert [photo.caption for photo in read.products[0].photos] == ["red", "red, back"]


def test_variant_lines_without_a_name_belong_to_the_product_above(folder):
    read = read_catalogue(
        folder(
            "name,slug,assets,facets,optionValues,sku,price,stockOnHand\n"
            "Laptop,laptop,a.jpg,category:Electronics|category:Computers|brand:X,13 inch,L13,1299,3\n"
            ",,,,15 inch,L15,1399,4\n,,,,17 inch,L13,1499,\n",
            "images/a.jpg",
        )
    )
    assert not read.problems
    (product,) = read.products
    assert (product.sku, product.price, product.stock) == ("L13", Decimal("1299.00"), 7)
    assert product.category == ("Electronics", "Computers")
    assert [photo.path.name for photo in product.photos] == ["a.jpg"]


def test_a_line_that_lacks_its_name_is_not_taken_for_a_variant(folder):
    read = read_catalogue(folder("sku,name,price\nA,First,1\nB,,2\n"))
    assert problems(read) == [(3, "the product has no name.")]


def test_a_second_line_of_a_sku_is_told_and_left_out(folder):
    read = read_catalogue(folder("sku,name\nA,First\nB,Other\nA,Second\n"))
    assert problems(read) == [(4, "SKU A stands in line 2 already; this line is left out.")]
    assert [product.name for product in read.products] == ["First", "Other"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("gone.jpg", "photo gone.jpg is not in the folder."),
        ("../secret.jpg", "photo ../secret.jpg lies outside of the folder and is refused."),
        ("a/../../secret.jpg", "photo a/../../secret.jpg lies outside of the folder and is refused."),
        ("..\\secret.jpg", "photo ..\\secret.jpg lies outside of the folder and is refused."),
        ("/etc/passwd", "photo /etc/passwd lies outside of the folder and is refused."),
        ("C:\\secret.jpg", "photo C:\\secret.jpg lies outside of the folder and is refused."),
        ("link.jpg", "photo link.jpg lies outside of the folder and is refused."),
        ("https://x.test/a.jpg", "photo https://x.test/a.jpg is an address; only files in the folder are loaded."),
        (
            "text.jpg",
            "photo text.jpg cannot be used: This is not an image of a known type; "
            "upload the photo as JPEG, PNG, WEBP, GIF, AVIF, BMP, TIFF.",
        ),
        ("x" * 300 + ".jpg", f"photo {'x' * 120} is not in the folder."),
    ],
)
def test_a_product_with_a_bad_photo_is_left_out_whole(folder, tmp_path, image, message):
    place = folder(f"sku,name,image,colour_images\nA,Mug,ok.jpg,{image}\nB,Cup,ok.jpg,\n", "ok.jpg")
    (tmp_path / "secret.jpg").write_bytes((place / "ok.jpg").read_bytes())
    (place / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (place / "text.jpg").write_text("not a photo")
    read = read_catalogue(place)
    assert problems(read) == [(2, message)]
    assert [product.sku for product in read.products] == ["B"]


def test_every_problem_of_a_file_is_told_at_once(folder):
    read = read_catalogue(
        folder(
            f"sku,name,price,stock\nA,,1,1\nB,{'b' * 201},1,1\nC,Cup,-1,1\nD,Dish,1,many\n,,9,\n"
            "E,Egg,1,1,extra\nF,Fork,1,1\n"
        )
    )
    assert problems(read) == [
        (2, "the product has no name."),
        (3, "the name has 201 characters, at most 200 fit."),
        (4, "the price -1 is below zero."),
        (5, "“many” is not a number of pieces in stock."),
        (6, "has neither a name nor a SKU."),
        (7, "has 5 cells, the header only 4; is a quote missing?"),
    ]
    assert [product.sku for product in read.products] == ["F"]


def test_an_unclosed_quote_names_the_line(folder):
    with pytest.raises(CatalogueError, match=r"products\.csv line 4 cannot be read as CSV: unexpected end of data"):
        read_catalogue(folder('sku,name\nA,One\nB,"Two\nC,Three\n'))


def test_a_file_without_a_name_column_says_which_names_are_known(folder):
    with pytest.raises(CatalogueError, match=r"no column for the name.*name, title"):
        read_catalogue(folder("sku,price\nA,1\n"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\x81\x8d\x8f\x90\x9d"])
def test_a_file_that_is_no_csv(folder, content):
    with pytest.raises(CatalogueError):
        read_catalogue(folder(content))


def test_a_folder_without_a_file(tmp_path):
    with pytest.raises(CatalogueError, match=r"holds no products\.csv"):
        read_catalogue(tmp_path)
    with pytest.raises(CatalogueError, match="is not a folder"):
        read_catalogue(tmp_path / "nowhere")


def test_html_of_a_description_is_taken_off_and_plain_text_left_alone(folder):
    read = read_catalogue(folder('sku,name,description\nA,Mug,"<p>Tea &amp; <b>cake</b></p>"\nB,Cup,"5 < 6 & 7 > 2"\n'))
    assert [product.description for product in read.products] == ["Tea & cake", "5 < 6 & 7 > 2"]


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("34", "34.00"),
        ("$1,299.00", "1299.00"),
        ("1.299,00 €", "1299.00"),
        ("1,299", "1299.00"),
        ("12,5", "12.50"),
        ("1 299,90", "1299.90"),
        ("CHF 1'299.90", "1299.90"),
        (".5", "0.50"),
        ("0.005", "0.01"),
        ("12.345.678", "12345678.00"),
        ("", None),
        (" – ", None),
    ],
)
def test_prices_as_people_write_them(text, price):
    assert parse_price(text) == (None if price is None else Decimal(price))


@pytest.mark.parametrize("text", ["free", "1e9", "12 or 13", "-3", "−3", "100000000", "NaN"])
def test_what_is_no_price(text):
    with pytest.raises(ValueError, match="price"):
        parse_price(text)


@pytest.mark.parametrize(("text", "pieces"), [("7", 7), ("7.0", 7), ("-2", 0), ("", None), ("99999999999", 2**31 - 1)])
def test_stock(text, pieces):
    assert parse_stock(text) == pieces


@pytest.mark.parametrize("text", ["many", "NaN", "Infinity", "7 or 8"])
def test_what_is_no_stock(text):
    with pytest.raises(ValueError, match="stock"):
        parse_stock(text)


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.parametrize(("name", "products", "photos"), [("shops/luma", 181, 458), ("photos", 3751, 4312)])
def test_the_shared_catalogues(shared_folder, name, products, photos):
    read = read_catalogue(shared_folder(name))
    assert not read.problems
    assert (len(read.products), sum(len(product.photos) for product in read.products)) == (products, photos)


@pytest.mark.parametrize("line", ["sep=;\r\n", "SEP=;\n", '"sep=;"\n', "\ufeffsep=;\n"])
def test_excels_line_that_names_the_delimiter_is_none_of_the_columns(folder, line):
    read = read_catalogue(
        folder(f"{line}sku;name;category;price, net;image\nA-1;Mug, red;Cups;1;a.jpg\n;;;;x\n", "a.jpg")
    )
    (product,) = read.products
    assert (product.sku, product.name, product.line) == ("A-1", "Mug, red", 3)
    assert problems(read)[0][0] == 4
    piped = read_catalogue(folder("sep=|\nsku|name\nA-1|Mug; red, small\n"))
    assert piped.products[0].name == "Mug; red, small"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_photos_are_found_however_their_names_are_written(folder, form, encoding):
    names = [unicodedata.normalize(form, name) for name in ("images/Caf\u00e9/Gr\u00fcn.JPG", "b.jpg")]
    read = read_catalogue(folder("sku;name;image\nA;Mug;caf\u00e9/gr\u00fcn.jpg|B.JPG\n", *names, encoding=encoding))
    assert not read.problems
    assert [photo.path.name for photo in read.products[0].photos] == [name.rpartition("/")[2] for name in names]


def test_of_two_photos_that_differ_in_case_none_is_guessed(folder):
    made = folder("sku,name,image\nA,Mug,a.jpg\nB,Cup,A.JPG\n", "a.jpg", "A.jpg")
    read = read_catalogue(made)
    assert [photo.path.name for photo in read.products[0].photos] == ["a.jpg"]
    assert [message for _line, message in problems(read)] == ["photo A.JPG is not in the folder."]


def test_another_case_is_no_way_out_of_the_folder(folder, tmp_path):
    made = folder("sku,name,image\nA,Mug,LINK/secret.jpg\n", "a.jpg")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.jpg").write_bytes((made / "a.jpg").read_bytes())
    (made / "link").symlink_to(tmp_path / "outside")
    assert "outside of the folder" in problems(read_catalogue(made))[0][1]
