// The field above the tables of a Config's fields hides the rows that do not hold its words.
document.addEventListener("DOMContentLoaded", () => {
  const input = document.getElementById("field-filter");
  if (!input) return;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    document.querySelectorAll("table.fields tbody tr").forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    });
  });
});
